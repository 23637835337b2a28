"""torchrun, which also leaves word of the ranks that failed: ``python -m assets.launch FILE ARGUMENTS-OF-TORCHRUN``.

torchrun knows how each rank ended (by a signal, or by an exception that ``record`` wrote down), but tells it on stderr
alone; whoever started it sees exit code 1. Here it lies in ``FILE`` as JSON.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from assets.ending import lives
from warehouse.store import replace_file

ERRORS = ".torchrun-"
"""Name of the folder that ranks write their errors into, before the launch's process id."""
EXIT_STATUS = 1
NOTICED_SECONDS = 5.0
"""A signal killed a rank at most so long before torchrun notes the time."""


@dataclass(frozen=True)
class RankFailure:
    """How a rank ended, in a line, and its traceback if it was an exception."""

    rank: int
    cause: str
    traceback: str

    def __str__(self) -> str:
        return f"rank {self.rank} {self.cause}"


def main(arguments: Sequence[str]) -> int:
    """Run torchrun to its end; returns the exit status."""
    file, *rest = arguments
    with _place_for_errors(Path(file).parent) as errors:
        try:
            run.main(["--log-dir", str(errors), *rest])
        except ChildFailedError as error:
            failures = [asdict(failure) for failure in failures_of(error.failures)]
            replace_file(Path(file), json.dumps(failures, indent=1).encode())
            print(error, file=sys.stderr)
            return EXIT_STATUS
    return 0


@contextmanager
def _place_for_errors(folder: Path) -> Iterator[Path]:
    """Where ranks write their errors: torchrun itself would leave a folder in the system's for every start."""
    for left in folder.glob(f"{ERRORS}*"):
        if not lives(int(left.name.removeprefix(ERRORS))):  # that launch was killed
            shutil.rmtree(left)
    place = folder / f"{ERRORS}{os.getpid()}"
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)  # torchrun may have ended before it made it


def failures_of(failed: Mapping[int, ProcessFailure]) -> list[RankFailure]:
    """The ranks that failed, the cause first.

    A rank that is gone makes the others fail, for want of an answer: when each wrote its error down tells the order. A
    signal is noticed late, perhaps after the errors that it led to. The ranks that are left torchrun ends itself, by
    TERM and in the end by KILL: they are last.
    """

    def moment(rank: int) -> tuple[bool, float]:
        failure = failed[rank]
        if _raised(failure):
            return False, Path(failure.error_file).stat().st_mtime
        # NCCL's watchdog aborts a rank that has waited in vain.
        sudden = failure.exitcode < 0 and failure.exitcode != -signal.SIGABRT
        late = NOTICED_SECONDS if sudden else 0.0
        return failure.exitcode == -signal.SIGTERM, failure.timestamp - late

    return [RankFailure(rank, *_cause(failed[rank])) for rank in sorted(failed, key=moment)]


def read_failures(file: Path) -> list[RankFailure]:
    """What a launch left in its file, the cause first; empty if no rank failed."""
    return [RankFailure(**fields) for fields in json.loads(file.read_text())] if file.exists() else []


def _raised(failure: ProcessFailure) -> bool:
    """Whether it wrote an exception down; it may have been killed on its way out after that."""
    return isinstance(failure.message, dict)


def _cause(failure: ProcessFailure) -> tuple[str, str]:
    if isinstance(failure.message, dict):
        return f"failed: {failure.message['message']}", failure.message["extraInfo"]["py_callstack"]
    if failure.exitcode < 0:
        name = failure.signal_name()
        hint = ", perhaps for want of memory (the kernel's log says so)" if -failure.exitcode == signal.SIGKILL else ""
        return f"was killed by {name}{hint}", ""
    return f"ended with exit status {failure.exitcode}", ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
