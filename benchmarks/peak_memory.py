"""Memory that a process and its children have resident together (Linux)."""

import os
import resource
import threading
from pathlib import Path
from types import TracebackType

INTERVAL_S = 0.1


class PeakMemory:
    """Context in which the most memory is taken that this process and its children have had at one time.

    Pages that several of them have, as of a mapped file, count once. ``peak_bytes`` is there afterwards: the larger of
    what was seen every ``INTERVAL_S`` and the kernel's own figure for this process alone.
    """

    def __enter__(self) -> "PeakMemory":
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._watch.join()
        self.peak_bytes = max(self.peak_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    def _look(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            together = sum(_proportional_bytes(process) for process in (os.getpid(), *children(os.getpid())))
            self.peak_bytes = max(self.peak_bytes, together)


def children(parent: int) -> list[int]:
    """The processes that a process has started and that live."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            # The fields after the name, which is in brackets and may hold anything: state, parent, …
            if folder.name.isdigit() and int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def _proportional_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
