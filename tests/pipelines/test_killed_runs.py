"""A run that is killed again and again, each time further on, and ends as the one that nothing disturbed.

Each fixture goes on from the state that the one before left, by the same command.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from whole_runs import PATIENCE_S, Whole, step_resumed_from

from assets.ending import LOCK
from model.weights import read_weights

GONE_S = 30.0
"""Time in which orphans must have ended; they take one or two seconds."""


@dataclass(frozen=True)
class Stop:
    """What was seen after the run was stopped: processes left, its log, shard files' times, and of pre-training the
    steps saved and the ledger's status."""

    left: dict[int, str]
    log: str
    times: dict[str, int]
    step: int
    status: str


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory, rendered_corpus: Path) -> Iterator[Whole]:
    whole = Whole(tmp_path_factory.mktemp("disturbed"), rendered_corpus)
    yield whole
    whole.kill_all()


@pytest.fixture(scope="module")
def killed_in_shards(disturbed: Whole) -> Stop:
    """SIGKILL to the process group when some shards are finished and one is being written."""
    process = disturbed.start()

    def between() -> bool:
        shards = disturbed.store.shards
        return any(shards.glob("*/*.json")) and any(shards.glob("*/*.tmp"))

    disturbed.wait(process, "a shard was half written", between)
    os.killpg(process.pid, signal.SIGKILL)
    return _stopped(disturbed, process)


@pytest.fixture(scope="module")
def killed_in_training(disturbed: Whole, killed_in_shards: Stop) -> Stop:
    """SIGKILL to every process at once, after pre-training has saved a checkpoint."""
    process = disturbed.start()
    _wait_for_checkpoint(disturbed, process, after=0)
    disturbed.kill_all()
    return _stopped(disturbed, process)


@pytest.fixture(scope="module")
def orphaned(disturbed: Whole, killed_in_training: Stop) -> Stop:
    """SIGKILL to Dagster's process alone, which leaves torchrun and its rank without a parent."""
    process = disturbed.start()
    _wait_for_checkpoint(disturbed, process, after=killed_in_training.step)
    process.kill()
    return _stopped(disturbed, process)


@pytest.fixture(scope="module")
def preempted(disturbed: Whole, orphaned: Stop) -> Stop:
    """TERM to every process at once, as Slurm tells the steps of a job that it preempts, or whose time is nearly up."""
    process = disturbed.start()
    _wait_for_checkpoint(disturbed, process, after=orphaned.step)
    for pid in disturbed.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return _stopped(disturbed, process)


@pytest.fixture(scope="module")
def cancelled(disturbed: Whole, preempted: Stop) -> Stop:
    """INT to Dagster's process, as from the UI or by Ctrl-C; before that, somebody else held the run's folder."""
    with (disturbed.run_folder("pretrained") / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = disturbed.start()
        disturbed.wait(process, "it waited for its turn", lambda: "waiting for it to end" in disturbed.said())
        assert "going on after" not in disturbed.said()
    _wait_for_checkpoint(disturbed, process, after=preempted.step)
    process.send_signal(signal.SIGINT)
    return _stopped(disturbed, process)


@pytest.fixture(scope="module")
def finished(disturbed: Whole, cancelled: Stop) -> str:
    """The log of the last start, which nothing disturbs; it also finds a catalog that was never finished."""
    (disturbed.store.root / "warehouse.duckdb.1.tmp").touch()
    return disturbed.run()


def test_no_process_is_left_of_a_killed_group(killed_in_shards: Stop) -> None:
    assert killed_in_shards.left == {}


def test_finished_shards_stay_and_the_rest_is_written(
    disturbed: Whole, killed_in_shards: Stop, killed_in_training: Stop
) -> None:
    before, after = killed_in_shards.times, killed_in_training.times
    done = {path: time for path, time in before.items() if path.endswith(".json")}
    done |= {path: time for path, time in before.items() if path.replace(".tar", ".json") in done}
    assert 0 < len(done) < len(after)
    assert done.items() <= after.items()
    assert not [path for path in after if path.endswith(".tmp")]


def test_shards_and_snapshots_are_those_of_an_undisturbed_run(
    disturbed: Whole, undisturbed: Whole, killed_in_training: Stop
) -> None:
    assert disturbed.shards() == undisturbed.shards()
    assert disturbed.snapshots() == undisturbed.snapshots()


def test_training_goes_on_from_the_checkpoint_of_a_killed_run(killed_in_training: Stop, orphaned: Stop) -> None:
    assert killed_in_training.left == {}
    assert killed_in_training.step > 0
    assert step_resumed_from(orphaned.log) == killed_in_training.step


def test_training_without_its_launcher_saves_and_ends(
    disturbed: Whole, killed_in_training: Stop, orphaned: Stop, preempted: Stop
) -> None:
    assert orphaned.left == {}
    assert killed_in_training.step < orphaned.step < _steps_asked(disturbed)
    assert step_resumed_from(preempted.log) == orphaned.step


def test_training_that_is_preempted_saves_and_ends(disturbed: Whole, preempted: Stop, cancelled: Stop) -> None:
    assert preempted.left == {}
    assert preempted.status == "cancelled" and preempted.step < _steps_asked(disturbed)
    assert step_resumed_from(cancelled.log) == preempted.step


def test_cancel_saves_and_is_recorded(disturbed: Whole, cancelled: Stop) -> None:
    assert cancelled.left == {}
    assert cancelled.status == "cancelled"
    assert f"pretrained cancelled: runs/{disturbed.run_folder('pretrained').name}/checkpoints/" in cancelled.log
    assert disturbed.store.rows("checkpoints", disturbed.run_folder("pretrained").name)


def test_same_command_finishes_what_was_stopped_five_times(
    disturbed: Whole, undisturbed: Whole, cancelled: Stop, finished: str
) -> None:
    assert step_resumed_from(finished) == cancelled.step
    assert [disturbed.ledger(stage)["status"] for stage in ("pretrained", "evaluation")] == ["finished"] * 2
    assert disturbed.ledger("pretrained")["attempts"] == 5
    assert disturbed.ledger("post_pretrained")["attempts"] == 1
    assert [row["step"] for row in disturbed.steps("pretrained")] == list(range(1, _steps_asked(disturbed) + 1))
    assert disturbed.snapshots() == undisturbed.snapshots()
    assert disturbed.times("*.tmp") == {}


def test_weights_and_scores_are_those_of_an_undisturbed_run(
    disturbed: Whole, undisturbed: Whole, finished: str
) -> None:
    losses = [[row["loss"] for row in whole.steps("pretrained")] for whole in (disturbed, undisturbed)]
    assert losses[0] == losses[1]
    for stage in ("pretrained", "finetuned"):
        ours, theirs = (
            read_weights(max((whole.run_folder(stage) / "checkpoints").glob("step-*"))).tensors
            for whole in (disturbed, undisturbed)
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), stage
    scores = [
        {(row["run_id"], row["split"], row["metric"]): row["value"] for row in whole.store.rows("scores")}
        for whole in (disturbed, undisturbed)
    ]
    assert scores[0] == scores[1]


def _stopped(whole: Whole, process: subprocess.Popen) -> Stop:
    assert process.wait(PATIENCE_S) != 0
    left = whole.left_after(GONE_S)
    rows = whole.store.rows("runs")
    return Stop(left, whole.said(), whole.times("shards/**/*"), _saved(whole), rows[0]["status"] if rows else "")


def _saved(whole: Whole) -> int:
    """Step of pre-training's last checkpoint."""
    checkpoints = whole.store.runs.glob("pretrained-*/checkpoints/step-*")
    return max((int(path.name.removeprefix("step-")) for path in checkpoints), default=0)


def _steps_asked(whole: Whole) -> int:
    return whole.steps("pretrained")[0]["steps"]


def _wait_for_checkpoint(whole: Whole, process: subprocess.Popen, after: int) -> None:
    whole.wait(process, f"a checkpoint after step {after}", lambda: _saved(whole) > after)
