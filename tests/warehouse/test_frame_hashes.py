"""What the frame hash ignores, and what its variants see."""

import av
import cv2
import numpy as np
from rendered_clips import drifting

from warehouse.curation.frame_hashes import Thumbnail, hash_clip, picture_area, thumbnail


def rows(frames: list[np.ndarray], pixel_format: str = "yuv420p") -> dict[str, np.ndarray]:
    """Hashes by variant, uint64 (frames, 4)."""
    sampled = []
    for number, frame in enumerate(frames):
        decoded = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(format=pixel_format)
        sampled.append(thumbnail(decoded, 250 * number))
    found = hash_clip(sampled)
    return {
        variant: np.array([[row[f"h{i}"] for i in range(4)] for row in found if row["variant"] == variant], np.uint64)
        for variant in ("full", "trimmed", "mirrored")
    }


def distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.bitwise_count(a ^ b).sum(-1, dtype=int).mean())


def test_bits_are_the_signs_of_the_cosine_transform_against_its_median() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (192, 192), dtype=np.uint8)
    small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float64)
    low = cv2.dct(small)[1:17, 1:17]
    words = np.packbits((low > np.median(low)).ravel(), bitorder="little").view("<u8")
    (row,) = (r for r in hash_clip([Thumbnail(0, grey)]) if r["variant"] == "full")
    assert [row[f"h{i}"] for i in range(4)] == words.tolist()
    assert np.bitwise_count(words).sum() == 128


def test_size_brightness_and_pixel_format_change_little_and_content_much() -> None:
    frames = drifting(3, count=6, height=144, width=192)
    ours = rows(frames)["full"]
    assert distance(ours, rows([(f * 0.6 + 30).astype(np.uint8) for f in frames])["full"]) < 8
    assert distance(ours, rows([cv2.resize(f, (96, 96), interpolation=cv2.INTER_AREA) for f in frames])["full"]) < 8
    assert distance(ours, rows(frames, "yuv420p10le")["full"]) < 4
    assert distance(ours, rows(frames, "rgb24")["full"]) < 4
    assert distance(ours, rows(drifting(4, count=6, height=144, width=192))["full"]) > 100


def test_mirrored_is_the_hash_of_the_flipped_frame() -> None:
    frames = drifting(5, count=4)
    assert distance(rows(frames)["mirrored"], rows([f[:, ::-1] for f in frames])["full"]) < 4


def test_trimmed_is_the_hash_without_bars_and_only_where_there_are_bars() -> None:
    frames = drifting(6, count=6, height=144, width=192)
    plain = rows(frames)
    assert len(plain["trimmed"]) == 0
    for border in ((20, 20, 0, 0), (0, 0, 30, 30), (12, 24, 40, 0)):
        barred = rows([cv2.copyMakeBorder(f, *border, cv2.BORDER_CONSTANT) for f in frames])
        assert distance(barred["full"], plain["full"]) > 40
        assert distance(barred["trimmed"], plain["full"]) < 20
        assert distance(barred["mirrored"], plain["mirrored"]) < 20


def test_bars_are_judged_over_the_clip_and_black_frames_have_no_quality() -> None:
    grey = np.full((3, 192, 192), 16, np.uint8)
    assert picture_area(grey) is None
    assert all(row["quality"] == 0 for row in hash_clip([Thumbnail(0, grey[0])]))
    grey[0, 40:150] = 120  # bars in this frame
    assert picture_area(grey[:1]) == (slice(41, 149), slice(0, 192))
    grey[1] = 120  # none in that
    assert picture_area(grey) is None
