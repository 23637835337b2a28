"""A folder in which the command line runs the whole job: what the tests start, watch, kill and look into."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg

from warehouse.config import Config, load
from warehouse.store import Store

REPOSITORY = Path(__file__).parent.parent
STUDENTS = "runs/distilled-"
"""Begins the checkpoints of students."""
SMALL_JOB = "tests/pipelines/small_job.py"
PATIENCE_S = 600.0
"""Longer than anything waited for takes on a busy machine."""


class Whole:
    """A configuration like the shipped one on a rendered corpus, with its own data root and Dagster instance."""

    def __init__(self, root: Path, corpus: Path) -> None:
        self.root, self.home, self.log = root, root / "dagster", root / "log.txt"
        self.home.mkdir(parents=True)
        shutil.copy(REPOSITORY / "dagster.yaml", self.home)
        text = (REPOSITORY / "sources.toml").read_text()
        text = text.replace('".reelhouse/demo"', '"data"').replace("# workers = 8", "workers = 2")
        self.all_sources = text.replace(".reelhouse/demo/corpus", str(corpus))
        (root / "sources.toml").write_text(self.all_sources)

    @property
    def config(self) -> Config:
        return load(self.root / "sources.toml")

    @property
    def store(self) -> Store:
        return Store(self.root / "data")

    @property
    def environment(self) -> dict[str, str]:
        own = {"DAGSTER_HOME": str(self.home), "REELHOUSE_SOURCES": str(self.root / "sources.toml")}
        return {**os.environ, **own, "OMP_NUM_THREADS": "1"}  # one thread: sums keep their order

    def start(self, *arguments: str) -> subprocess.Popen:
        """``dagster ARGUMENTS`` (by default the whole job) as the leader of a process group; says what it does in
        ``log``, which begins anew."""
        command = arguments or ("job", "execute", "-f", SMALL_JOB, "-j", "full_run")
        with self.log.open("w") as log:
            return subprocess.Popen(
                [str(Path(sys.executable).with_name("dagster")), *command],
                cwd=REPOSITORY,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *arguments: str) -> str:
        """:meth:`start` and wait for success; returns the log."""
        process = self.start(*arguments)
        try:
            status = process.wait(PATIENCE_S)
        finally:
            self.kill_all()
        assert status == 0, f"exit status {status}:\n{self.log.read_text()[-6000:]}"
        return self.log.read_text()

    def wait(self, process: subprocess.Popen, what: str, happened: Callable[[], bool]) -> None:
        """Poll until it happened; fails if the command ends or time runs out before."""
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill_all()
                raise AssertionError(f"{'ended' if ended else 'waited too long'} before {what}:\n{self.said()[-6000:]}")
            time.sleep(0.005)

    def said(self) -> str:
        """The log so far."""
        return self.log.read_text()

    def processes(self) -> dict[int, str]:
        """Every process that descends from this folder's commands, known by their environment: id and command."""
        mark = f"DAGSTER_HOME={self.home}".encode()
        found = {}
        if Path("/proc/self/environ").exists():
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):  # it has ended meanwhile, or is somebody else's
                    if mark in (folder / "environ").read_bytes().split(b"\0"):
                        found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        else:
            listing = subprocess.run(["ps", "axeww", "-o", "pid=,command="], capture_output=True, check=True).stdout
            for line in listing.splitlines():
                if mark in line.split():
                    found[int(line.split()[0])] = line.decode(errors="replace")
        return found

    def kill_all(self) -> None:
        """SIGKILL to all of them at once, as when the machine fails."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def left_after(self, seconds: float) -> dict[int, str]:
        """The processes that have not ended by themselves in this time."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def run_folder(self, stage: str) -> Path:
        """The folder of the only run of a stage, evaluations of students aside."""
        folders = self.store.runs.glob(f"{stage}-*")
        [folder] = [f for f in folders if not f"{self.store.rows('runs', f.name)[0]['parent']}".startswith(STUDENTS)]
        return folder

    def steps(self, stage: str) -> list[dict]:
        """The rows of a stage's ``metrics.jsonl``; none before it has started."""
        files = list(self.store.runs.glob(f"{stage}-*/metrics.jsonl"))
        lines = files[0].read_text().split("\n") if files else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def ledger(self, stage: str) -> dict:
        """The row of ``runs`` of the only run of a stage."""
        [row] = self.store.rows("runs", self.run_folder(stage).name)
        return row

    def shards(self) -> dict[str, str]:
        """SHA-256 of every shard, by name, as the tables say."""
        return {row["shard"]: row["sha256"] for row in self.store.rows("shards")}

    def snapshots(self) -> dict[str, list[str]]:
        """The ids of all snapshots taken, by collection."""
        found: dict[str, list[str]] = {}
        for row in self.store.rows("snapshots"):
            found.setdefault(row["collection"], []).append(row["snapshot_id"])
        return found

    def times(self, pattern: str = "**/*") -> dict[str, int]:
        """Modification time in ns of every file under the data root that matches."""
        files = (path for path in self.store.root.glob(pattern) if path.is_file())
        return {path.relative_to(self.store.root).as_posix(): path.stat().st_mtime_ns for path in files}

    @contextlib.contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Dagster's own record of what was run."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            yield instance


def step_resumed_from(log: str) -> int:
    """The step that a training stage says it goes on after."""
    [step] = re.findall(r"pretrained: .* going on after step (\d+)", log)
    return int(step)
