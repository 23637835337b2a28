"""A picture within a picture is found where it is, and not where there is none."""

import cv2
import numpy as np
import pytest

from warehouse.curation.insets import Part, inset, part_of

SIZE = (108, 192)
WHOLE = (0.0, 0.0, 1.0, 1.0)


Frames = list[np.ndarray]


def texture(seed: int, blur: float) -> np.ndarray:
    """Blurred noise that goes on at the other side where it ends."""
    noise = np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)
    smooth = cv2.GaussianBlur(np.tile(noise, (3, 3)), (0, 0), blur)[SIZE[0] : 2 * SIZE[0], SIZE[1] : 2 * SIZE[1]]
    return np.clip(128 + 45 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def moving(seed: int, blur: float = 2.0) -> Frames:
    return [np.roll(texture(seed, blur), (3 * t, 5 * t), (0, 1)) for t in range(24)]


def put(frames: Frames, grounds: Frames, part: Part) -> Frames:
    """Frames made small over grounds, at ten times the size, so that edges fall between pixels."""
    height, width = (10 * side for side in SIZE)
    top, left, bottom, right = (round(share * side) for share, side in zip(part, (height, width) * 2, strict=True))
    pictures = []
    for frame, ground in zip(frames, grounds, strict=True):
        picture = cv2.resize(ground, (width, height))
        picture[top:bottom, left:right] = cv2.resize(frame, (right - left, bottom - top))
        pictures.append(cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA))
    return pictures


@pytest.mark.parametrize("part", [
    (0.383, 0.371, 0.983, 0.971),  # in a corner
    (0.0, 0.333, 1.0, 0.668),  # upright, between bars of blurred picture
    (0.222, 0.0, 0.777, 1.0),  # wide, in an upright video
    (0.0, 0.0, 0.55, 0.62),  # at the corner itself
])  # fmt: skip
@pytest.mark.parametrize("ground", ["still", "moving"])
def test_an_inset_is_found_to_the_pixel(part: Part, ground: str) -> None:
    behind = [frame // 2 for frame in moving(8, blur=8.0)]  # blurred and darkened, as editors do it
    found = inset(put(moving(3), behind if ground == "moving" else behind[:1] * 24, part))
    assert found is not None
    pixels = np.abs(np.subtract(found, part)) * (SIZE * 2)
    assert pixels.max() < 0.6, found


def test_nothing_is_found_in_a_plain_clip_or_around_a_still() -> None:
    for seed in range(20):
        assert inset(moving(seed)) is None
        assert inset([texture(seed, 2.0)] * 24) is None
    assert inset(put([texture(3, 2.0)] * 24, moving(8, 8.0), (0.2, 0.2, 0.8, 0.8))) is None  # as a poster would be
    assert inset(put(moving(3), moving(8), (0.2, 0.2, 0.8, 0.8))[:2]) is None  # too few to tell
    assert inset([np.zeros((1, 500), np.uint8)] * 9) is None
    assert inset([np.zeros((64, 64), np.uint8)] * 9) is None


def test_a_part_of_a_part() -> None:
    assert part_of(WHOLE, (0.1, 0.2, 0.3, 0.4)) == (0.1, 0.2, 0.3, 0.4)
    assert part_of((0.5, 0.0, 1.0, 0.5), (0.5, 0.5, 1.0, 1.0)) == (0.75, 0.25, 1.0, 0.5)
