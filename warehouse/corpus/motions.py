"""What is drawn: a texture that fills the frame and moves, and the motion is the class.

A texture is a sum of octaves of smooth noise. An octave's strength depends on its wavelength *on the screen* alone,
so a texture looks alike at every moment of a zoom (octaves fade in at one end and out at the other), and a frame
says nothing about its class. At frame 0 the eight motions of one seed show the same picture, and a motion played
backwards is its opposite: both exactly, which the tests hold.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

# (right, down, octaves nearer, radians clockwise) for each unit of speed. Turning and zooming at 1.5 move the
# pixels about as far, on average over the frame, as drifting at 1.
VELOCITIES: dict[str, tuple[float, float, float, float]] = {
    "drift_left": (-1.0, 0.0, 0.0, 0.0),
    "drift_right": (1.0, 0.0, 0.0, 0.0),
    "drift_up": (0.0, -1.0, 0.0, 0.0),
    "drift_down": (0.0, 1.0, 0.0, 0.0),
    "zoom_in": (0.0, 0.0, 1.5 / math.log(2), 0.0),
    "zoom_out": (0.0, 0.0, -1.5 / math.log(2), 0.0),
    "turn_clockwise": (0.0, 0.0, 0.0, 1.5),
    "turn_anticlockwise": (0.0, 0.0, 0.0, -1.5),
}
MOTIONS: tuple[str, ...] = tuple(VELOCITIES)

_CELLS = 32  # grid cells along a tile, which repeats
_CELL_PIXELS = 8  # tile pixels to a cell; a wave is about two cells long
# What a small model can learn in minutes on a CPU. Waves have to be longer than a patch (a sixth of the frame) to be
# predicted from their surroundings, and short enough that a drift of four frames is a good part of one to be seen.
_LONGEST, _SHORTEST = 0.5, -2.6  # log2 of the longest and shortest wave on the screen, in units of the frame's size
_SLOWEST, _FASTEST = 0.015, 0.025  # sizes of the frame that a drift covers from one frame to the next


@dataclass(frozen=True)
class Scene:
    """An endless video: ``key`` draws texture, colours, pose and speed, alike for every motion.

    ``width`` and ``height`` are in pixels and even.
    """

    key: str
    motion: str
    width: int
    height: int


def generator(key: str) -> np.random.Generator:
    """A random generator for ``key``: the same numbers on every machine and in every process."""
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=16).digest()))


def render(scene: Scene, first: int, count: int) -> NDArray[np.uint8]:
    """Frames ``first`` to ``first + count - 1`` of a scene, as RGB uint8 (T, H, W, 3); ``first`` may be negative."""
    rng = generator(scene.key)
    size = math.sqrt(scene.width * scene.height)
    speed = rng.uniform(_SLOWEST, _FASTEST)
    angle, octave = rng.uniform(0, 2 * math.pi), rng.uniform(0, 1)
    centre = np.array([scene.width, scene.height]) * rng.uniform(0.4, 0.6, 2)
    colours = rng.normal(0, 16, (3, 3))
    colours[0] = rng.uniform(36, 46) + rng.normal(0, 6, 3)  # one channel of the noise is light and dark
    mean = rng.uniform(100, 155, 3)
    right, down, nearer, clockwise = (speed * component for component in VELOCITIES[scene.motion])

    video = np.empty((count, scene.height, scene.width, 3), np.uint8)
    for index in range(count):
        t = first + index
        pivot = centre + size * t * np.array([right, down])
        noise = np.zeros((scene.height, scene.width, 3), np.float32)
        power = 0.0
        for level, strength in _levels(octave + t * nearer):
            scale = 2.0 * _CELL_PIXELS * 2.0 ** (level - octave - t * nearer) / size  # tile pixels to a screen pixel
            matrix = _screen_to_tile(scene.key, level, scale, angle + t * clockwise, pivot)
            layer = cv2.warpAffine(
                _tile(scene.key, level), matrix, (scene.width, scene.height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_WRAP,
            )
            noise += np.float32(strength) * layer
            power += strength**2
        noise /= np.float32(math.sqrt(power))
        picture = noise.reshape(-1, 3) @ colours.astype(np.float32) + mean.astype(np.float32)
        video[index] = np.clip(np.rint(picture), 0, 255).reshape(noise.shape)
    return video


def _levels(octave: float) -> Iterator[tuple[int, float]]:
    """The octaves of noise that show when level 0 has waves of ``2 ** octave`` sizes of the frame, with strengths."""
    for level in range(math.ceil(octave - _LONGEST), math.floor(octave - _SHORTEST) + 1):
        wave = octave - level
        ramp = min(1.0, _LONGEST - wave, wave - _SHORTEST)
        if ramp > 0:
            # Longer waves are stronger, as in photographs: perceptual hashes see them, and so do small frames.
            yield level, math.sin(ramp * math.pi / 2) * 2.0 ** (0.5 * wave)


def _screen_to_tile(
    key: str, level: int, scale: float, angle: float, pivot: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The affine map (2, 3) from screen pixels to pixels of a level's tile; ``angle`` turns the picture clockwise."""
    rng = generator(f"{key}/{level}/pose")
    turned = angle + rng.uniform(0, 2 * math.pi)
    cos, sin = scale * math.cos(turned), scale * math.sin(turned)
    linear = np.array([[cos, sin], [-sin, cos]])
    offset = rng.uniform(0, _CELLS * _CELL_PIXELS, 2) - linear @ pivot
    return np.column_stack([linear, offset])


@lru_cache(maxsize=16)
def _tile(key: str, level: int) -> NDArray[np.float32]:
    """Smooth noise that repeats without a seam, as float32 (S, S, 3), about standard normal."""
    grid = generator(f"{key}/{level}").standard_normal((_CELLS, _CELLS, 3)).astype(np.float32)
    border = 4
    grid = np.pad(grid, ((border, border), (border, border), (0, 0)), mode="wrap")
    tile = cv2.resize(grid, None, fx=_CELL_PIXELS, fy=_CELL_PIXELS, interpolation=cv2.INTER_CUBIC)
    edge = border * _CELL_PIXELS
    return np.ascontiguousarray(tile[edge:-edge, edge:-edge])
