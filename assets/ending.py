"""How a stage's processes end, and that two never work on one run: what is left when some of them are killed.

Dagster starts torchrun, and torchrun starts the ranks, each in a session of its own: a rank outlives both unless it
looks for them itself.
"""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist

LAUNCHER = "REELHOUSE_LAUNCHER"
"""Environment variable: the process id of whoever started a stage, without whom it is to end."""
LOCK = "training.lock"
POLL_SECONDS = 0.2
PATIENCE = timedelta(days=30)
"""How long ranks wait for one another where there is no telling: for ever, as far as a run is concerned."""


def reasons_to_stop() -> Callable[[], bool]:
    """A function that says whether to save and end: INT, TERM or HUP came, or torchrun or the launcher is gone."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, note)
    torchrun = os.getppid()
    launcher = int(os.environ.get(LAUNCHER, torchrun))
    return lambda: bool(asked) or os.getppid() != torchrun or not lives(launcher)


def patient_group() -> dist.ProcessGroup:
    """All ranks, for waiting for one another as long as it takes: for a rank that has more to do, or for another run.

    Training's own group gives up after ten minutes on GPUs, which is right for a step. A rank that dies meanwhile is
    torchrun's to notice, which ends the others.
    """
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def anywhere(own: bool, group: dist.ProcessGroup) -> bool:
    """Whether it is so on any rank: all of them end, or none."""
    flag = torch.tensor(float(own))
    dist.all_reduce(flag, group=group)
    return bool(flag.item())


@contextmanager
def hold(folder: Path, stop: Callable[[], bool], say: Callable[[str], None]) -> Iterator[None]:
    """Hold a run's folder, after waiting for the process that does. One that dies lets go of it."""
    with (folder / LOCK).open("w") as file:
        waiting = False
        while not _taken(file.fileno()):
            if stop():
                sys.exit("stopped while waiting for another process to end its work on this run")
            if not waiting:
                say(f"another process still works on this run and holds {file.name}: waiting for it to end")
            waiting = True
            time.sleep(POLL_SECONDS)
        yield


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lives(pid: int) -> bool:
    """Whether there is such a process, of this user."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # no such process, or by now somebody else's
        return False
    return True
