from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from loaders.order import Cursor, Draw
from loaders.pool import ClipPool, WorkerDiedError
from warehouse.catalog.snapshots import Sample

MakeSamples = Callable[[list[bytes]], list[Sample]]


@dataclass(frozen=True)
class Numbering:
    """A job that writes the clip's number, and ends its process at one of them."""

    fatal: int = -1

    @property
    def shape(self) -> tuple[int, ...]:
        return (3,)

    def __call__(self, sample: Sample, draw: Draw, pixels: np.ndarray) -> None:
        if draw.position == self.fatal:
            raise SystemExit(7)
        pixels[:] = draw.position


def tasks(sample: Sample, count: int) -> Iterator[tuple[Sample, Draw]]:
    return ((sample, Draw(0, place, 0, Cursor())) for place in range(count))


def test_an_abandoned_pass_leaves_nothing_behind(make_samples: MakeSamples) -> None:
    (sample,) = make_samples([b"data"])
    pool = ClipPool(Numbering(), workers=2, slots=4)
    abandoned = pool.results(tasks(sample, 50))
    assert [int(next(abandoned).pixels[0]) for _ in range(3)] == [0, 1, 2]
    again = [result.pixels.tolist() for result in pool.results(tasks(sample, 20))]
    assert again == [[place] * 3 for place in range(20)]
    pool.close()


def test_a_worker_that_dies_is_an_error_that_names_its_clip(make_samples: MakeSamples) -> None:
    (sample,) = make_samples([b"data"])
    pool = ClipPool(Numbering(fatal=5), workers=1, slots=2)
    with pytest.raises(WorkerDiedError, match="status 7 on clip clip-00"):
        list(pool.results(tasks(sample, 20)))
    pool.close()
