import numpy as np
import pytest

from loaders.augment import Box
from loaders.erasing import PIXEL_MEAN, PIXEL_STD, Erased, draw, noise


@pytest.mark.parametrize("size", [224, 48])
def test_boxes_have_the_official_areas_and_shapes(size: int) -> None:
    rng = np.random.default_rng(0)
    boxes = [erased.box for erased in (draw(size, rng) for _ in range(4000)) if erased]
    assert len(boxes) == 4000
    assert all(box.top >= 0 and box.top + box.height <= size > box.height > 0 for box in boxes)
    assert all(box.left >= 0 and box.left + box.width <= size > box.width > 0 for box in boxes)
    areas = np.array([box.height * box.width / size**2 for box in boxes])
    slack = 2 / size  # sides are whole pixels
    assert 0.02 - slack < areas.min() < 0.03 and 0.31 < areas.max() < 1 / 3 + slack
    assert abs(areas.mean() - (0.02 + 1 / 3) / 2) < 0.01
    logs = np.log([box.height / box.width for box in boxes])
    assert abs(logs.mean()) < 0.05 and np.log(0.3) - 0.2 < logs.min() < -1 and 1 < logs.max() < 0.2 - np.log(0.3)


def test_a_view_of_a_pixel_has_nothing_to_erase() -> None:
    assert draw(1, np.random.default_rng(0)) is None


def test_noise_is_normal_in_normalised_colours() -> None:
    pixels = noise(Erased(Box(0, 0, 100, 120), 7), frames=16)
    assert pixels.shape == (16, 100, 120, 3) and pixels.dtype == np.uint8
    normalised = (pixels / 255 - PIXEL_MEAN) / PIXEL_STD
    inside = abs(normalised) < 1.7  # what uint8 does not cut off
    assert abs(inside.mean((0, 1, 2)) - 0.9109).max() < 0.005
    for sigma, share in ((0, 0.5), (1, 0.8413), (-1, 0.1587)):
        assert abs((normalised < sigma).mean((0, 1, 2)) - share).max() < 0.01
    # No frame, place or colour repeats another.
    flat = normalised - normalised.mean((0, 1, 2))
    for axis in range(4):
        along = np.moveaxis(flat, axis, 0)
        assert abs((along[1:] * along[:-1]).mean()) < 0.01


def test_noise_is_a_function_of_seed_and_place() -> None:
    erased = Erased(Box(3, 4, 20, 30), 7)
    np.testing.assert_array_equal(noise(erased, 4), noise(erased, 8)[:4])
    assert (noise(erased, 4) != noise(Erased(erased.box, 8), 4)).mean() > 0.9
    # Pinned: a GPU makes the same bits.
    assert noise(erased, 1)[0, 0, :2].tolist() == [[135, 78, 71], [33, 132, 58]]
