"""RandAugment's operations against Pillow's, which timm and the official code apply, within stated tolerances.

Pillow is a dependency of the tests alone.
"""

import numpy as np
import pytest
from PIL import Image

from benchmarks.pillow_operations import in_pillow
from loaders.augment import Box
from loaders.image_operations import Augmenter
from loaders.randaugment import OPERATIONS, Operation, operation

HEIGHT, WIDTH = 96, 130
EXACT = {"autocontrast", "equalize", "invert", "posterize", "solarize", "solarize_add", "brightness"}
# Greys are rounded otherwise: one level at most, and two where a factor beyond 1 widens it.
NEARLY = {"color", "contrast", "sharpness"}
# OpenCV's bicubic kernel is softer than Pillow's (-0.75 and -1), places are rounded to a 32nd of a pixel, and Pillow
# truncates. Grey levels of 255, on pictures of smooth colours and sharp edges.
MEAN_TOLERANCE, MAX_TOLERANCE = 1.0, 24


def picture(seed: int) -> np.ndarray:
    """Smooth colours, a few sharp edges, and a range that autocontrast and equalize can widen."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    waves = [np.sin(x / rng.uniform(5, 20) + y / rng.uniform(5, 20) + rng.uniform(0, 6)) for _ in range(3)]
    pixels = np.stack(waves, axis=-1) * rng.uniform(40, 90, 3) + rng.uniform(100, 150, 3)
    for _ in range(4):
        top, left = rng.integers(HEIGHT - 20), rng.integers(WIDTH - 20)
        pixels[top : top + 20, left : left + 20] = rng.uniform(20, 235, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def differences(op: Operation, theirs: Operation, seed: int) -> np.ndarray:
    frame = picture(seed)
    before = frame.copy()
    ours = Augmenter([op], HEIGHT, WIDTH)(frame)
    np.testing.assert_array_equal(frame, before)
    assert ours.shape == frame.shape and ours.dtype == np.uint8
    return abs(ours.astype(int) - np.asarray(in_pillow(Image.fromarray(frame), theirs)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_pillow_s(name: str) -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        op = operation(name, rng.uniform(0, 10), rng)
        off = differences(op, op, seed)
        if name in EXACT:
            assert off.max() == 0, op
        elif name in NEARLY:
            assert off.max() <= 2 and off.mean() < 0.5, op
        else:
            assert off.mean() <= MEAN_TOLERANCE and off.max() <= MAX_TOLERANCE, op


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_the_tolerance_would_show_half_a_pixel_and_a_wrong_sign(name: str) -> None:
    strong = operation(name, 7, np.random.default_rng(0))
    # Half a pixel: of a translation everywhere, of the others at the picture's edge.
    shift = {"rotate": 2.0, "translate_x": 0.5 / WIDTH, "translate_y": 0.5 / HEIGHT}.get(name, 0.02)
    for theirs in (Operation(name, strong.value + shift), Operation(name, -strong.value)):
        assert differences(strong, theirs, 0).mean() > 1.5 * MEAN_TOLERANCE


def test_flat_pictures_stay_as_pillow_leaves_them() -> None:
    for level in (0, 77, 255):
        frame = np.full((8, 8, 3), level, np.uint8)
        for name in OPERATIONS:
            op = operation(name, 7, np.random.default_rng(1))
            theirs = np.asarray(in_pillow(Image.fromarray(frame), op))
            np.testing.assert_allclose(Augmenter([op], 8, 8)(frame).astype(int), theirs, atol=1, err_msg=str(op))


def test_operations_are_applied_in_their_order() -> None:
    ops = [Operation("posterize", 2), Operation("solarize", 100), Operation("translate_x", 0.25)]
    image = Image.fromarray(picture(3))
    for op in ops:
        image = in_pillow(image, op)
    ours = Augmenter(ops, HEIGHT, WIDTH)(picture(3)).astype(int)
    assert abs(ours - np.asarray(image)).mean() < MEAN_TOLERANCE
    backwards = Augmenter(ops[::-1], HEIGHT, WIDTH)(picture(3)).astype(int)
    assert abs(backwards - ours).mean() > 10 * MEAN_TOLERANCE


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_part_is_worked_out_as_it_is_in_the_whole(name: str) -> None:
    rng = np.random.default_rng(0)
    frame = picture(5)
    # Places in a part are rounded to a 32nd of a pixel too, but from another corner.
    tolerance = 4 if name in ("rotate", "shear_x", "shear_y") else 0
    for _ in range(60):
        op = operation(name, rng.uniform(0, 10), rng)
        height, width = rng.integers(1, HEIGHT + 1), rng.integers(1, WIDTH + 1)
        top, left = rng.integers(HEIGHT - height + 1), rng.integers(WIDTH - width + 1)
        box = Box(int(top), int(left), int(height), int(width))
        part = Augmenter([op], HEIGHT, WIDTH, box)(frame).astype(int)
        whole = Augmenter([op], HEIGHT, WIDTH)(frame)[box.slices]
        np.testing.assert_allclose(part, whole, atol=tolerance, err_msg=f"{op} {box}")
