"""What RandAugment draws: `rand-m7-n4-mstd0.5-inc1` of timm, in distribution and in value."""

from collections import Counter

import numpy as np
import pytest

from loaders.randaugment import OPERATIONS, Operation, draw, operation


def test_four_draws_each_half_the_time_of_fifteen_operations() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw(rng) for _ in range(8000)]
    counts = Counter(len(operations) for operations in drawn)
    expected = {0: 1, 1: 4, 2: 6, 3: 4, 4: 1}  # of 16
    assert all(abs(counts[number] / 8000 - share / 16) < 0.02 for number, share in expected.items())
    names = Counter(op.name for operations in drawn for op in operations)
    assert set(names) == set(OPERATIONS) and len(OPERATIONS) == 15
    assert all(abs(count / sum(names.values()) - 1 / 15) < 0.01 for count in names.values())
    assert any(len({op.name for op in operations}) < len(operations) for operations in drawn)  # with replacement


def test_magnitudes_are_normal_around_seven_with_either_sign() -> None:
    rng = np.random.default_rng(0)
    drawn = [op for _ in range(8000) for op in draw(rng)]
    for name, full in (("rotate", 30), ("shear_x", 0.3), ("translate_y", 0.45)):
        magnitudes = np.array([op.value / full * 10 for op in drawn if op.name == name])
        assert abs(np.mean(abs(magnitudes)) - 7) < 0.1 and abs(np.std(abs(magnitudes)) - 0.5) < 0.05
        assert abs((magnitudes > 0).mean() - 0.5) < 0.06
    factors = np.array([op.value for op in drawn if op.name == "color"])
    assert abs(abs(factors - 1).mean() - 0.63) < 0.01 and 0 < (factors > 1).mean() < 1


@pytest.mark.parametrize(
    ("name", "at_0", "at_7", "at_10"),
    [
        ("posterize", 4, 2, 0),
        ("solarize", 256, 77, 0),
        ("solarize_add", 0, 77, 110),
        ("rotate", 0, 21, 30),
        ("shear_x", 0, 0.21, 0.3),
        ("translate_x", 0, 0.315, 0.45),
        ("color", 1, 1.63, 1.9),
    ],
)
def test_values_are_those_of_timm(name: str, at_0: float, at_7: float, at_10: float) -> None:
    for magnitude, value in ((0, at_0), (7, at_7), (10, at_10)):
        seen = {operation(name, magnitude, np.random.default_rng(seed)).value for seed in range(20)}
        around = 1 if name == "color" else 0
        signed = name in ("rotate", "shear_x", "translate_x", "color")
        expected = {value, 2 * around - value} if signed else {value}
        assert {round(number, 9) for number in seen} == {round(number, 9) for number in expected}


def test_the_draw_is_the_same_for_ever() -> None:
    # Pinned: what a resumed run draws, and what a GPU is told.
    assert draw(np.random.default_rng(7)) == (
        Operation("translate_x", 0.30476990733363624),
        Operation("translate_y", 0.345154843024977),
        Operation("brightness", 0.3479571077416661),
    )
