"""What torch renders on the device against what OpenCV renders on the CPU path, with the same drawn parameters."""

import numpy as np
import pytest
import torch

from loaders import dali_augment, erasing
from loaders.augment import Box, crop_resize
from loaders.erasing import Erased
from loaders.image_operations import Augmenter
from loaders.randaugment import LAYERS, OPERATIONS, Operation, operation
from loaders.views import View

HEIGHT, WIDTH, STEPS = 61, 88, 3
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU: torch on a GPU was not compared"),
        ],
    ),
]
# Levels of 255 that an operation may be off, where it rounds; tables and equalize are exact.
ROUNDED = {"color", "contrast", "sharpness", "brightness", "autocontrast"} | {
    "rotate", "shear_x", "shear_y", "translate_x", "translate_y"
}  # fmt: skip
# Of a view: OpenCV averages over boxes where torch has a triangular filter.
MEAN_TOLERANCE, MAX_TOLERANCE = 1.5, 24


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Coloured waves of less than the full range, with fine detail on them, another in each frame."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [np.sin(x / 11 + step) + np.cos(y / 7 - step * channel) for step in range(STEPS) for channel in range(3)]
    smooth = np.stack(waves).reshape(STEPS, 3, HEIGHT, WIDTH).transpose(0, 2, 3, 1)
    return np.clip(120 + 45 * smooth + rng.normal(0, 4, smooth.shape), 17, 230).astype(np.uint8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_that_of_the_cpu_path(name: str, device: str, frames: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    drawn = [operation(name, magnitude, rng) for magnitude in (0.0, 3.0, 6.5, 7.0, 7.5, 10.0)]
    for one in drawn:
        expected = np.stack([Augmenter([one], HEIGHT, WIDTH)(frame) for frame in frames])
        shown = dali_augment.apply(torch.from_numpy(frames).to(device), one).cpu().numpy()
        assert shown.shape == expected.shape and shown.dtype == np.uint8
        difference = np.abs(shown.astype(int) - expected.astype(int))
        assert difference.max() <= (1 if name in ROUNDED else 0), one
        assert difference.mean() <= 0.3, one
    changed = np.stack([Augmenter(drawn[-1:], HEIGHT, WIDTH)(frame) for frame in frames])
    assert np.abs(changed.astype(int) - frames).mean() > 1  # that it does nothing would have been seen


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("values", [np.full((2, 9, 8, 3), 77), np.indices((2, 9, 8, 3)).sum(0) % 2 * 255])
def test_frames_without_a_range_are_left_to_pillows_rules(values: np.ndarray, device: str) -> None:
    plain = values.astype(np.uint8)
    for name in ("autocontrast", "equalize"):
        expected = np.stack([Augmenter([Operation(name)], 9, 8)(frame) for frame in plain])
        shown = dali_augment.apply(torch.from_numpy(plain).to(device), Operation(name))
        assert np.array_equal(shown.cpu().numpy(), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_a_view_is_that_of_the_cpu_path(device: str, frames: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    boxes = [Box(3, 5, 30, 41), Box(0, 0, HEIGHT, WIDTH), Box(20, 10, 41, 60), Box(7, 30, 12, 9)]
    off, mirrored = [], []
    for number in range(24):
        names = rng.choice(OPERATIONS, LAYERS)
        operations = tuple(operation(name, 7.0, rng) for name in names[: number % (LAYERS + 1)])
        view = View(np.arange(STEPS), boxes[number % 4], bool(number % 2), operations)
        augmented = [Augmenter(operations, HEIGHT, WIDTH)(frame) for frame in frames]
        expected = np.stack([crop_resize(frame, view.box, 32, view.flip) for frame in augmented])
        shown = dali_augment.render(torch.from_numpy(frames).to(device), view, 32).cpu().numpy()
        difference = np.abs(shown.astype(int) - expected.astype(int))
        assert difference.mean() <= MEAN_TOLERANCE and difference.max() <= MAX_TOLERANCE, view
        off.append(difference.mean())
        mirrored.append(np.abs(shown[:, :, ::-1].astype(int) - expected).mean())
    assert np.mean(mirrored) > 10 * np.mean(off)  # a view that was not mirrored would have been seen


@pytest.mark.parametrize("device", DEVICES)
def test_erasing_is_that_of_the_cpu_path_bit_for_bit(device: str) -> None:
    erased = Erased(Box(3, 7, 20, 13), seed=4_000_000_007)
    frames_TSS3 = torch.zeros(8, 32, 32, 3, dtype=torch.uint8, device=device)
    dali_augment.erase(frames_TSS3, erased)
    expected = np.zeros((8, 32, 32, 3), np.uint8)
    expected[:, 3:23, 7:20] = erasing.noise(erased, 8)
    assert np.array_equal(frames_TSS3.cpu().numpy(), expected) and expected.std() > 10
