"""What is kept of the picture: PSNR and SSIM of a clip as stored against what its encoder was given."""

import io
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from rendered_clips import drifting, write
from shard_plans import plan

from warehouse.media_file import MediaFile
from warehouse.shards.encoding import encode
from warehouse.shards.errors import ShardError
from warehouse.shards.quality import EncodedClip, PictureQuality, measure, picture_quality, psnr, ssim
from warehouse.shards.writer import write_shards


def test_psnr_and_ssim_tell_damage() -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (64, 64), dtype=np.uint8), (5, 5), 2)
    assert (psnr(picture, picture), ssim(picture, picture)) == (100, pytest.approx(1))
    assert psnr(picture, picture + 1) == pytest.approx(48.13, abs=0.01)  # 20 log10(255)
    assert psnr(picture, picture ^ 7) == pytest.approx(cv2.PSNR(picture, picture ^ 7), abs=0.01)
    noisy = np.clip(picture.astype(int) + rng.integers(-40, 41, picture.shape), 0, 255).astype(np.uint8)
    assert ssim(picture, picture + 1) > 0.99 > 0.7 > ssim(picture, noisy)


def lumas(data: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]


@pytest.mark.parametrize(("rendition", "step"), [("np256", 1), ("strided", 4)])
def test_a_clip_is_compared_with_its_own_frames(tmp_path: Path, rendition: str, step: int) -> None:
    clip = write(tmp_path / "clip.mp4", drifting(5, count=70))  # small: not scaled, so its own pictures are compared
    media = MediaFile(str(clip))
    data = encode(media, rendition, 4, 25.0).data
    each = [cv2.PSNR(a, b) for a, b in zip(lumas(clip.read_bytes())[::step], lumas(data), strict=True)]
    whole, part = picture_quality(media, rendition, 4, data), picture_quality(media, rendition, 4, data, 30)
    assert (whole.frames, part.frames) == (len(each), -(-30 // step))
    for found, expected in ((whole, each), (part, each[: part.frames])):
        assert (found.psnr, found.least_psnr) == pytest.approx((np.mean(expected), min(expected)), abs=0.01)
        assert 0.9 < found.least_ssim < found.ssim < 1
    # Of the same source harder compressed less is kept, and of another video it is no quality at all.
    write(tmp_path / "hard.mp4", drifting(5, count=70), crf=40)
    worse = picture_quality(media, "np256", 4, encode(MediaFile(str(tmp_path / "hard.mp4")), "np256", 4, 25.0).data)
    assert worse.psnr < whole.psnr - 3 and worse.least_ssim < whole.least_ssim
    for other in (
        write(tmp_path / "short.mp4", drifting(5, count=60)),
        write(tmp_path / "wide.mp4", drifting(5, count=70, width=128)),
    ):
        with pytest.raises(ShardError, match=rf"{other.stem}\.mp4: not what was stored of it"):
            picture_quality(MediaFile(str(other)), rendition, 4, data)


def test_what_cannot_be_measured_says_why_and_the_others_are(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.mp4", drifting(seed, count=40)) for seed, name in enumerate("abcd")]
    shard = plan(tmp_path / "shards", paths, "np256")
    [sidecar] = write_shards([shard])
    clips = [
        EncodedClip(stored.key, shard.tar, stored.offset, stored.size, stored.sha256, "np256", 4, member.media)
        for stored, member in zip(sidecar.members, shard.members, strict=True)
    ]
    paths[0].unlink()
    paths[1].write_bytes(b"no video")
    clips[2] = replace(clips[2], sha256="0" * 64)
    gone, broken, damaged, quality = measure(64, clips)
    assert isinstance(gone, str) and gone.startswith("missing_file")
    assert isinstance(broken, str) and broken.startswith("unreadable_container")
    assert isinstance(damaged, str) and "shard-0.tar" in damaged and "SHA-256 differs" in damaged
    assert isinstance(quality, PictureQuality) and quality.frames == 40
