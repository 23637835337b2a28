import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from loaders import pool as pool_module
from loaders.failures import CRASHED, HUNG, FailedClip
from loaders.order import Cursor, Draw
from loaders.pool import MOST_FRUITLESS, ClipPool, WorkerDiedError
from warehouse.catalog.sample import Sample

MakeSamples = Callable[[list[bytes]], list[Sample]]


@dataclass(frozen=True)
class Numbering:
    """A job that writes the clip's number into its pixels, and does ``trouble`` at clip ``fatal``."""

    fatal: int = -1
    trouble: str = ""
    folder: Path = Path()

    @property
    def shape(self) -> tuple[int, ...]:
        return (3,)

    def __call__(self, sample: Sample, draw: Draw, pixels: np.ndarray) -> None:
        if draw.position == self.fatal:
            getattr(self, self.trouble)()
        pixels[:] = draw.position % 256

    def exits(self) -> None:
        raise SystemExit(7)

    def crashes(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def crashes_once(self) -> None:
        with contextlib.suppress(FileExistsError):
            (self.folder / "crashed").touch(exist_ok=False)
            self.crashes()

    def crashes_and_hangs(self) -> None:
        self.crashes_once()
        self.hangs()

    def hangs(self) -> None:
        time.sleep(1000)

    def hangs_in_c(self) -> None:
        # As a decoder would that never gives Python's lock back: no thread of the worker runs any more.
        ctypes.PyDLL(None).sleep(1000)


class Unstartable(Numbering):
    """A job that kills the worker which receives it."""

    def __reduce__(self) -> tuple:
        return os._exit if self.trouble == "exits" else kill_this_process, (9,)


def kill_this_process(number: int) -> None:
    os.kill(os.getpid(), number)


def tasks(sample: Sample, count: int) -> Iterator[tuple[Sample, Draw]]:
    return ((sample, Draw(0, place, 0, Cursor())) for place in range(count))


def numbers(pool: ClipPool, sample: Sample, count: int) -> list[int | FailedClip]:
    """What each clip came to: the number in its pixels, or its failure."""
    found: list[int | FailedClip] = []
    for result in pool.results(tasks(sample, count)):
        pixels = pool.memory.pixels[result.place]
        assert len(set(pixels.tolist())) == 1
        found.append(result.outcome if isinstance(result.outcome, FailedClip) else int(pixels[0]))
    return found


def test_an_abandoned_pass_leaves_nothing_behind(make_samples: MakeSamples) -> None:
    (sample,) = make_samples([b"data"])
    pool = ClipPool(Numbering(), workers=2, under_way=4)
    abandoned = pool.results(tasks(sample, 50))
    assert [int(pool.memory.pixels[next(abandoned).place, 0]) for _ in range(3)] == [0, 1, 2]
    assert numbers(pool, sample, 20) == list(range(20))
    pool.close()


def test_a_worker_that_ends_by_itself_is_an_error_that_names_its_clip(make_samples: MakeSamples) -> None:
    (sample,) = make_samples([b"data"])
    pool = ClipPool(Numbering(5, "exits"), workers=1, under_way=2)
    with pytest.raises(WorkerDiedError, match="exit status 7 on clip clip-00"):
        numbers(pool, sample, 20)
    pool.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_clip_that_crashes_its_worker_fails_and_all_others_come(workers: int, make_samples: MakeSamples) -> None:
    (sample,) = make_samples([b"data"])
    pool = ClipPool(Numbering(5, "crashes"), workers, under_way=8)
    found = numbers(pool, sample, 30)
    failed = found.pop(5)
    assert isinstance(failed, FailedClip)
    assert (failed.clip_id, failed.error_class) == ("clip-00", CRASHED)
    assert "SIGSEGV" in failed.error and str(sample.shard) in failed.error
    assert found == [number for number in range(30) if number != 5]
    pool.close()


def test_a_worker_killed_by_others_costs_no_clip(make_samples: MakeSamples, tmp_path: Path) -> None:
    (sample,) = make_samples([b"data"])
    pool = ClipPool(Numbering(5, "crashes_once", tmp_path), workers=2, under_way=8)
    assert numbers(pool, sample, 20) == list(range(20))
    for worker in pool._workers:  # idle now
        worker.process.kill()
        worker.process.wait()
    assert numbers(pool, sample, 20) == list(range(20))
    pool.close()


@pytest.mark.parametrize("trouble", ["hangs", "hangs_in_c", "crashes_and_hangs"])
def test_a_clip_that_hangs_fails_and_all_others_come(
    trouble: str, make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "CLIP_SECONDS", 1.0)
    (sample,) = make_samples([b"data"])
    # More is under way than fits into the pipe of a worker that does not read.
    pool = ClipPool(Numbering(5, trouble, tmp_path), workers=1, under_way=1000)
    found = numbers(pool, sample, 2000)
    failed = found.pop(5)
    assert isinstance(failed, FailedClip)
    assert (failed.error_class, "after 1 s" in failed.error) == (HUNG, True)
    assert found == [number % 256 for number in range(2000) if number != 5]
    pool.close()


@pytest.mark.parametrize("trouble", ["exits", "is killed"])
def test_workers_that_cannot_start_are_an_error(trouble: str, make_samples: MakeSamples) -> None:
    (sample,) = make_samples([b"data"])
    pool = ClipPool(Unstartable(trouble=trouble), workers=1, under_way=2)
    expected = {"exits": "exit status 9 without a clip", "is killed": f"{MOST_FRUITLESS + 1} .* in a row .*SIGKILL"}
    with pytest.raises(WorkerDiedError, match=expected[trouble]):
        numbers(pool, sample, 1)
    pool.close()


def test_a_worker_in_a_hanging_decoder_ends_with_its_parent(make_samples: MakeSamples) -> None:
    script = (
        "import sys; from pathlib import Path; from test_pool import *; from loaders.memory import map_memory\n"
        "sample = Sample('clip', '', '', None, 1, 1, Path(), 0, 0, '', '', 1, 1, 1, 1)\n"
        "pool = ClipPool(Numbering(1, 'hangs_in_c'), workers=1, under_way=2)\n"
        "results = pool.results(tasks(sample, 2))\n"
        "next(results)\n"
        "while pool.memory.marks[0] != 1: time.sleep(0.01)\n"
        "time.sleep(0.2); print('hanging', flush=True); next(results)\n"
    )
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(folder.parents[1])])}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        assert b"hanging" in parent.stdout.readline()
        parent.send_signal(signal.SIGKILL)
        # The worker holds the same pipe: it ends when the worker has ended.
        parent.communicate(timeout=15)
