"""RandAugment as VideoMAE V2 fine-tunes with it, ``rand-m7-n4-mstd0.5-inc1`` of timm: what is drawn for a view.

All frames of a view get the same operations with the same values, on the whole frame, before it is cropped (VideoMAE V2
facts, §3.4). ``image_operations`` applies them. Ranges, "increasing" variants and the chance of each operation are
timm's: https://github.com/huggingface/pytorch-image-models, ``timm/data/auto_augment.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LAYERS = 4  # operations drawn for a view, with replacement (n4),
CHANCE = 0.5  # each of which is applied with this probability (timm's default)
MAGNITUDE, MAGNITUDE_STD = 7.0, 0.5  # m7, mstd0.5: of a normal distribution for each operation, cut to
MAX_MAGNITUDE = 10.0  # 0 … this


@dataclass(frozen=True)
class Operation:
    """A name of ``OPERATIONS`` and its value, with the sign: degrees, bits, a threshold, a factor or a share."""

    name: str
    value: float = 0.0


# Strength, 0 … 1, → value before the coin for the sign.
_UNSIGNED: dict[str, Callable[[float], float]] = {
    "autocontrast": lambda strength: 0,
    "equalize": lambda strength: 0,
    "invert": lambda strength: 0,
    "posterize": lambda strength: 4 - int(4 * strength),  # bits kept
    "solarize": lambda strength: 256 - int(256 * strength),  # values from here on are inverted
    "solarize_add": lambda strength: int(110 * strength),  # added to values below 128
}
_SIGNED: dict[str, Callable[[float], float]] = {
    "rotate": lambda strength: 30 * strength,  # degrees
    "shear_x": lambda strength: 0.3 * strength,
    "shear_y": lambda strength: 0.3 * strength,
    "translate_x": lambda strength: 0.45 * strength,  # of the width
    "translate_y": lambda strength: 0.45 * strength,  # of the height
}
_ENHANCING = ("color", "contrast", "brightness", "sharpness")  # factor 1 ± 0.9 · strength; 1 changes nothing
OPERATIONS = (*_UNSIGNED, *_SIGNED, *_ENHANCING)


def draw(rng: np.random.Generator) -> tuple[Operation, ...]:
    """The operations of one view: of ``LAYERS`` draws those that the coin lets through, 0 to ``LAYERS``."""
    names = [OPERATIONS[number] for number in rng.integers(len(OPERATIONS), size=LAYERS)]
    return tuple(operation(name, _magnitude(rng), rng) for name in names if rng.random() < CHANCE)


def operation(name: str, magnitude: float, rng: np.random.Generator) -> Operation:
    """An operation at a magnitude of 0 … ``MAX_MAGNITUDE``, the sign drawn where it has one.

    Raises:
        KeyError: ``name`` is none of ``OPERATIONS``.
    """
    strength = magnitude / MAX_MAGNITUDE
    if name in _UNSIGNED:
        return Operation(name, float(_UNSIGNED[name](strength)))
    sign = -1 if rng.random() < 0.5 else 1
    if name in _ENHANCING:
        return Operation(name, 1 + sign * 0.9 * strength)
    return Operation(name, sign * _SIGNED[name](strength))


def _magnitude(rng: np.random.Generator) -> float:
    return float(np.clip(rng.normal(MAGNITUDE, MAGNITUDE_STD), 0, MAX_MAGNITUDE))
