"""Every sampling against a slow reference of its own, for every start that can be drawn, on clips of every length.

The references are written from the VideoMAE V2 facts (§3.3, §4.6), with loops, 1-based offsets and floats as described
there, not from ``loaders.sampling``.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from loaders import sampling

LENGTHS = [*range(1, 140), 300]
SHAPES = [(16, 4), (16, 2), (8, 3), (4, 8)]  # frames, stride
Draw = Callable[[int, int, int, np.random.Generator], np.ndarray]


class Scripted:
    """Random numbers that are given; remembers the range that they were asked for."""

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.asked: range | None = None

    def integers(self, low: int, high: int | None = None, size: int | None = None) -> int | np.ndarray:
        self.asked = range(low) if high is None else range(low, high)
        if size is None:
            return self.asked[self.choice]
        return np.array([self.asked[(self.choice + 3 * place) % len(self.asked)] for place in range(size)])


def every_draw(sample: Draw, n_frames: int, frames: int, stride: int) -> Iterator[tuple[int | None, list[int]]]:
    """What is drawn from the range of starts, and the frames that come of it; ``None`` where nothing is drawn."""
    choice = 0
    while True:
        rng = Scripted(choice)
        ids = sample(n_frames, frames, stride, rng).tolist()  # type: ignore[arg-type]
        yield (None if rng.asked is None else rng.asked[choice]), ids
        choice += 1
        if rng.asked is None or choice == len(rng.asked):
            return


def official_dense(n_frames: int, frames: int, stride: int, start: int) -> list[int]:
    offset, ids = start + 1, []
    for _ in range(frames):
        ids.append(offset - 1)
        if offset + stride < n_frames:
            offset += stride
    return ids


def official_linspace(n_frames: int, frames: int, stride: int, end: int | None) -> list[int]:
    span = frames * stride
    if n_frames <= span:
        spread = points(0, n_frames, n_frames // stride)
        padded = spread + [float(n_frames)] * (frames - len(spread))
        return [int(min(point, n_frames - 1)) for point in padded]
    assert end is not None
    return [int(min(max(point, end - span), end - 1)) for point in points(end - span, end, frames)]


def points(start: int, stop: int, count: int) -> list[float]:
    """numpy.linspace: double arithmetic, the end exact."""
    if count < 2:
        return [float(start)] * count
    step = (stop - start) / (count - 1)
    return [start + place * step for place in range(count - 1)] + [float(stop)]


def official_multi_view(n_frames: int, frames: int, stride: int, view: int, views: int) -> list[int]:
    strided = list(range(0, n_frames, stride))
    while len(strided) < frames:
        strided.append(strided[-1])
    start = int(view * max(len(strided) - frames, 0) / (views - 1))
    return strided[start : start + frames]


def official_segment_views(n_frames: int, frames: int, view: int, views: int) -> list[int]:
    tick = n_frames / frames
    every = sorted(int(part * tick / views + tick * place) for part in range(views) for place in range(frames))
    return every[view::views]


@pytest.mark.parametrize(("frames", "stride"), SHAPES)
def test_dense(frames: int, stride: int) -> None:
    for n_frames in LENGTHS:
        drawn = dict(every_draw(sampling.dense, n_frames, frames, stride))
        starts = range(n_frames - frames * stride + 1) if n_frames >= frames * stride else [None]
        assert drawn == {start: official_dense(n_frames, frames, stride, start or 0) for start in starts}


@pytest.mark.parametrize(("frames", "stride"), SHAPES)
def test_aligned_dense_is_the_part_of_dense_that_starts_on_the_grid(frames: int, stride: int) -> None:
    for n_frames in LENGTHS:
        aligned = [ids for _, ids in every_draw(sampling.dense_aligned, n_frames, frames, stride)]
        everywhere = [ids for _, ids in every_draw(sampling.dense, n_frames, frames, stride)]
        assert aligned == [ids for ids in everywhere if ids[0] % stride == 0]


@pytest.mark.parametrize(("frames", "stride"), SHAPES)
def test_linspace_and_its_centre(frames: int, stride: int) -> None:
    for n_frames in LENGTHS:
        span = frames * stride
        drawn = dict(every_draw(sampling.linspace, n_frames, frames, stride))
        ends = range(span, n_frames) if n_frames > span else [None]
        assert drawn == {end: official_linspace(n_frames, frames, stride, end) for end in ends}
        middle = official_linspace(n_frames, frames, stride, (span + n_frames) // 2)
        assert sampling.centred(n_frames, frames, stride).tolist() == middle


@pytest.mark.parametrize(("frames", "stride"), SHAPES)
@pytest.mark.parametrize("views", [2, 3, 5, 7, 10])
def test_multi_view(views: int, frames: int, stride: int) -> None:
    for n_frames in LENGTHS:
        expected = [official_multi_view(n_frames, frames, stride, view, views) for view in range(views)]
        assert sampling.multi_view(n_frames, frames, stride, views).tolist() == expected


@pytest.mark.parametrize("frames", [16, 8])
def test_segments(frames: int) -> None:
    for n_frames in LENGTHS:
        length = n_frames // frames
        if not length:
            padded = [0] * (frames - n_frames) + list(range(n_frames))
            assert [ids for _, ids in every_draw(sampling.segments, n_frames, frames, 4)] == [padded]
            assert sampling.segment_centres(n_frames, frames, 4).tolist() == padded
            continue
        for choice, ids in every_draw(sampling.segments, n_frames, frames, 4):
            assert choice is not None
            assert ids == [place * length + (choice + 3 * place) % length for place in range(frames)]
        assert sampling.segment_centres(n_frames, frames, 4).tolist() == [
            place * length + length // 2 for place in range(frames)
        ]


@pytest.mark.parametrize("views", [1, 2, 4])
def test_segment_views(views: int) -> None:
    for n_frames in LENGTHS:
        expected = [official_segment_views(n_frames, 16, view, views) for view in range(views)]
        assert sampling.segment_views(n_frames, 16, 4, views).tolist() == expected


@pytest.mark.parametrize("step", [4, 16, 1])
def test_sliding_windows(step: int) -> None:
    for n_frames in LENGTHS:
        expected = [list(range(start, start + 16)) for start in range(0, n_frames - 15, step)]
        if n_frames < 16:
            expected = [[*range(n_frames), *[n_frames - 1] * (16 - n_frames)]]
        assert sampling.sliding_windows(n_frames, 16, step).tolist() == expected
