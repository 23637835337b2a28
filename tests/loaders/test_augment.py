import numpy as np
import pytest

from loaders.augment import SCALES, Box, crop_resize, multi_scale, random_resized, square

SIZES = [(72, 96), (96, 72), (256, 340), (64, 64), (3, 200), (1, 1)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_boxes_lie_within_the_frame(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    boxes = [draw(height, width, rng) for draw in (multi_scale, random_resized) for _ in range(200)]
    boxes += [square(height, width, place, places) for places in (1, 3) for place in range(places)]
    for box in boxes:
        assert box.top >= 0 and box.left >= 0 and box.height >= 1 and box.width >= 1
        assert box.top + box.height <= height and box.left + box.width <= width


def test_multi_scale_has_ten_shapes_at_thirteen_places() -> None:
    rng = np.random.default_rng(0)
    boxes = {multi_scale(256, 340, rng) for _ in range(6000)}
    sides = [int(256 * scale) for scale in SCALES]
    shapes = {(box.height, box.width) for box in boxes}
    assert shapes == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    small = {(box.top, box.left) for box in boxes if (box.height, box.width) == (168, 168)}
    assert len(small) == 13
    assert {(0, 0), (0, 172), (88, 0), (88, 172), (44, 86), (22, 43), (66, 129)} <= small


def test_random_resized_covers_its_areas_and_ratios() -> None:
    rng = np.random.default_rng(0)
    boxes = [random_resized(256, 340, rng) for _ in range(3000)]
    areas = np.array([box.height * box.width / (256 * 340) for box in boxes])
    ratios = np.array([box.width / box.height for box in boxes])
    assert 0.078 < areas.min() < 0.1 and 0.9 < areas.max() <= 1
    assert 0.74 < ratios.min() < 0.78 and 1.3 < ratios.max() < 1.35


def test_three_squares_touch_both_ends_and_the_middle() -> None:
    assert [square(256, 340, place, 3) for place in range(3)] == [Box(0, x, 256, 256) for x in (0, 42, 84)]
    assert [square(340, 256, place, 3) for place in range(3)] == [Box(y, 0, 256, 256) for y in (0, 42, 84)]
    assert square(256, 340, 0, 1) == Box(0, 42, 256, 256)


def test_crop_resize_takes_the_box_and_mirrors_it() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    np.testing.assert_array_equal(crop_resize(frame, Box(5, 7, 16, 16), 16, False), frame[5:21, 7:23])
    np.testing.assert_array_equal(crop_resize(frame, Box(5, 7, 16, 16), 16, True), frame[5:21, 7:23][:, ::-1])


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    checks = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (32, 32))[:, :, None].repeat(3, axis=2)
    shrunk = crop_resize(checks, Box(0, 0, 64, 64), 16, False)
    assert abs(shrunk.astype(int) - 128).max() <= 1
