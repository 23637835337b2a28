"""What the frame hash ignores, and what its variants see."""

import av
import cv2
import numpy as np
import pytest
from rendered_clips import drifting

from warehouse.curation.frame_hashes import Thumbnail, examine, picture_area, thumbnail
from warehouse.curation.hash_bits import MIRROR_WORDS


def rows(frames: list[np.ndarray], pixel_format: str = "yuv420p") -> dict[str, np.ndarray]:
    """Hashes by variant, uint64 (frames, 4)."""
    sampled = []
    for number, frame in enumerate(frames):
        decoded = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(format=pixel_format)
        sampled.append(thumbnail(decoded, 125 * number))
    found, _ = examine(sampled)
    return {
        variant: np.array([[row[f"h{i}"] for i in range(4)] for row in found if row["variant"] == variant], np.uint64)
        for variant in ("full", "trimmed", "centre", "centre_90")
    }


def distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.bitwise_count(a ^ b).sum(-1, dtype=int).mean())


def test_bits_are_the_signs_of_the_cosine_transform_against_its_median() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (192, 100), dtype=np.uint8)
    small = cv2.resize(grey.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small)[1:17, 1:17]
    words = np.packbits((low > np.median(low)).ravel(), bitorder="little").view("<u8")
    (row,) = (r for r in examine([Thumbnail(0, grey)])[0] if r["variant"] == "full")
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


def test_flipping_a_frame_flips_the_bits_of_odd_horizontal_frequencies() -> None:
    frames = drifting(5, count=4)
    assert distance(rows(frames)["full"] ^ MIRROR_WORDS, rows([f[:, ::-1] for f in frames])["full"]) < 12


def test_centre_is_the_hash_of_a_crop_of_the_picture_without_its_bars() -> None:
    frames = drifting(5, count=4, height=180, width=240)
    cropped = rows([f[18:-18, 24:-24] for f in frames])["full"]
    assert distance(rows(frames)["full"], cropped) > 40
    assert distance(rows(frames)["centre"], cropped) < 8
    assert distance(rows(frames)["centre_90"], rows([f[9:-9, 12:-12] for f in frames])["full"]) < 8
    barred = rows([cv2.copyMakeBorder(f, 0, 0, 40, 40, cv2.BORDER_CONSTANT) for f in frames])
    assert distance(barred["centre"], cropped) < 20


def test_trimmed_is_the_hash_without_bars_and_only_where_there_are_bars() -> None:
    frames = drifting(6, count=6, height=144, width=192)
    plain = rows(frames)
    assert len(plain["trimmed"]) == 0
    for border in ((20, 20, 0, 0), (0, 0, 30, 30), (12, 24, 40, 0)):
        barred = rows([cv2.copyMakeBorder(f, *border, cv2.BORDER_CONSTANT) for f in frames])
        assert distance(barred["full"], plain["full"]) > 40
        assert distance(barred["trimmed"], plain["full"]) < 20


def test_bars_are_judged_over_the_clip_and_black_frames_have_no_quality() -> None:
    grey = np.full((3, 192, 192), 16, np.uint8)
    assert picture_area(grey) is None
    assert all(row["quality"] < 1e-5 for row in examine([Thumbnail(0, grey[0])])[0])
    grey[0, 40:150] = 120  # bars in this frame
    assert picture_area(grey[:1]) == (slice(41, 149), slice(0, 192))
    grey[1] = 120  # none in that
    assert picture_area(grey) is None


def test_quality_is_the_spread_inside_the_part_that_is_hashed() -> None:
    grey = np.full((192, 192), 16, np.uint8)
    grey[40:152, 50:142] = 200  # flat between bars
    quality = {row["variant"]: row["quality"] for row in examine([Thumbnail(0, grey)])[0]}
    assert quality["full"] > 0.2
    assert all(quality[variant] < 1e-5 for variant in ("trimmed", "centre", "centre_90"))


def test_quality_is_the_standard_deviation_of_a_picture_of_hashed_frequencies() -> None:
    wave = np.cos(np.pi * 3 * (2 * np.arange(64) + 1) / 128)
    grey = np.rint(128 + 100 * np.outer(wave, wave)).astype(np.uint8)
    [full] = [row for row in examine([Thumbnail(0, grey)])[0] if row["variant"] == "full"]
    assert full["quality"] == pytest.approx(grey.std() / 127.5, rel=0.01)
