"""Makes a corpus on disk: what is there already stays, and a marker written last says that all is there."""

import csv
import io
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, fields
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

import cv2
from tqdm import tqdm

from warehouse.corpus.derive import DERIVE
from warehouse.corpus.encoding import write_video
from warehouse.corpus.layout import Clip
from warehouse.corpus.motions import render
from warehouse.corpus.plants import Plan, Truth, plan
from warehouse.engine import available_cores
from warehouse.store import replace_file

VERSION = 2  # counts up when the same arguments come to mean other bytes
MARKER, UNFINISHED = "corpus.json", "corpus.unfinished.json"
_SCRATCH = ".partial"

Task = tuple[str, Callable[[Path], None]]


def build(root: Path, clips: int, seed: int = 0, workers: int | None = None) -> bool:
    """Make the corpus of ``clips`` rendered clips in ``root``; equal arguments give equal bytes.

    Files that an interrupted run left are kept and the rest is made. Returns False if the corpus was complete.
    ``workers``: processes, default one for each core. Raises ValueError for too few clips, and FileExistsError if
    ``root`` holds something else: nothing is mixed and nothing is deleted.
    """
    arguments = json.dumps({"version": VERSION, "clips": clips, "seed": seed})
    contents = plan(clips, seed)
    if _is_complete(root, arguments):
        return False
    replace_file(root / UNFINISHED, arguments.encode())
    shutil.rmtree(root / _SCRATCH, ignore_errors=True)
    (root / _SCRATCH).mkdir()

    rendered: list[Task] = [(e.path, partial(_draw, e.clip)) for e in contents.rendered]
    derived: list[Task] = [(p, partial(_derive, kind, root / of)) for p, (kind, of) in contents.derived.items()]
    with tqdm(total=len(rendered) + len(derived), desc="corpus", unit="clip") as progress:
        for tasks in (rendered, derived):  # the second are made from the first
            missing = [task for task in tasks if not (root / task[0]).exists()]
            progress.update(len(tasks) - len(missing))
            for _ in _run(root, missing, workers or available_cores()):
                progress.update()

    for path, text in {**contents.texts, "truth.csv": _truth_csv(contents)}.items():
        replace_file(root / path, text.encode())
    shutil.rmtree(root / _SCRATCH)
    (root / UNFINISHED).rename(root / MARKER)
    return True


def _is_complete(root: Path, arguments: str) -> bool:
    """Whether this very corpus is there; False if it is unfinished or ``root`` is empty."""
    for name in (MARKER, UNFINISHED):
        if (root / name).exists():
            found = (root / name).read_text()
            if found != arguments:
                raise FileExistsError(
                    f"{root} holds the corpus {found}, and {arguments} was asked for: name another folder or remove it"
                )
            return name == MARKER
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} holds something that is no corpus: name an empty or a new folder")
    return False


def _run(root: Path, tasks: Sequence[Task], workers: int) -> Iterator[None]:
    """Do the tasks, in this process or in several, and yield after each."""
    if workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            _make(root, task)
            yield
        return
    # spawn: forking a process that has decoder or BLAS threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
        for future in as_completed([pool.submit(_make, root, task) for task in tasks]):
            future.result()
            yield


def _start_worker() -> None:
    """One thread to a worker, and none outlives a parent that was killed."""
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _make(root: Path, task: Task) -> None:
    """Make one file beside its place and move it there, so that a file that exists is whole."""
    path, make = task
    scratch = root / _SCRATCH / f"{os.getpid()}_{Path(path).name}"
    make(scratch)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    scratch.replace(root / path)


def _draw(clip: Clip, target: Path) -> None:
    write_video(target, render(clip.scene, clip.first, clip.frames), clip.fps)


def _derive(kind: str, origin: Path, target: Path) -> None:
    DERIVE[kind](origin, target)


def _truth_csv(contents: Plan) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Truth)])
    writer.writerows(astuple(line) for line in contents.truth)
    return text.getvalue()
