"""Two ranks, one of which dies: the asset's failure says which and of what, and the next run goes on.

Real torchrun, real ranks and real Dagster, on the snapshots of a whole run.
"""

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from whole_runs import Whole

from assets.launch import failures_of
from assets.stage_runs import run_stages
from assets.stages import PretrainSettings, RunSpec, SupervisedSettings
from loaders.train_loader import ClipLoader
from loaders.views import LoaderConfig
from model import checkpoint as checkpoints
from model.objectives import Pretraining
from model.optim import OptimConfig
from model.pretrainer import Pretrainer
from model.training import FitConfig, Progress, fit
from warehouse.catalog.snapshots import open_places
from warehouse.store import Store

STEPS, EVERY, VIDEOS = 32, 4, 8
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def store(undisturbed: Whole, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A copy of all that a whole run left, to train on."""
    root = tmp_path_factory.mktemp("ranks") / "data"
    shutil.copytree(undisturbed.store.root, root)
    return Store(root)


def pretraining(undisturbed: Whole, processes: int, accumulate: int) -> RunSpec:
    """A run of VIDEOS clips a step, however they are split."""
    loader = LoaderConfig(VIDEOS // processes // accumulate, frames=8, size=32)
    fitting = FitConfig(STEPS, EVERY, 0, OptimConfig(1e-3, 2), accumulate=accumulate)
    return RunSpec(
        "pretrained",
        undisturbed.ledger("pretrained")["snapshot_id"],
        None,
        PretrainSettings("tiny", loader, fitting),
        processes,
    )


def materialize(store: Store, spec: RunSpec) -> tuple[dg.ExecuteInProcessResult, str]:
    """Run a stage's asset in this process; its result, and Dagster's log."""

    @dg.asset(name=spec.stage)
    def stage(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return run_stages(context, store, {spec.stage: spec})

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([stage], instance=instance, raise_on_error=False)
        return result, "\n".join(entry.user_message for entry in instance.all_logs(result.run_id))


def failure_of(result: dg.ExecuteInProcessResult) -> tuple[str, dict[str, str]]:
    """What the asset's failure says, and shows."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    shown = event.step_failure_data.user_failure_data
    assert shown is not None and shown.description is not None
    return shown.description, {name: str(value.value) for name, value in shown.metadata.items()}


def ranks() -> dict[int, int]:
    """The processes that train for this one, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"assets.train" in (folder / "cmdline").read_bytes().split(b"\0"):
                environment = dict(
                    entry.split(b"=", 1) for entry in (folder / "environ").read_bytes().split(b"\0") if entry
                )
                if environment.get(b"REELHOUSE_LAUNCHER") == str(os.getpid()).encode() and b"RANK" in environment:
                    found[int(environment[b"RANK"])] = int(folder.name)
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
    return found


def kill_after_checkpoint(folder: Path, rank: int) -> threading.Thread:
    """A thread that kills a rank as soon as a checkpoint is there."""

    def wait() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while checkpoints.latest(folder) is None and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(ranks()[rank], signal.SIGKILL)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def losses_of_one_process(store: Store, spec: RunSpec, folder: Path) -> list[float]:
    """The run's losses as one rank has them that takes a step's videos as one batch, with nothing in between."""
    assert isinstance(spec.settings, PretrainSettings)
    seen: list[Progress] = []
    loader = replace(spec.settings.loader, clips_per_batch=VIDEOS)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with ClipLoader(open_places(store, spec.snapshot_id, "train"), loader) as batches:
            objective = Pretraining(Pretrainer(spec.settings.model, torch.Generator().manual_seed(0)))
            config = replace(spec.settings.fit, accumulate=1)
            fit(objective, batches, config, folder, torch.device("cpu"), report=seen.append)
    finally:
        dist.destroy_process_group()
    return [progress.loss for progress in seen]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="ranks are found by /proc")
def test_a_killed_rank_ends_the_run_and_another_number_of_ranks_goes_on(
    store: Store, undisturbed: Whole, tmp_path: Path
) -> None:
    spec = pretraining(undisturbed, processes=2, accumulate=1)
    folder = store.runs / spec.run_id
    killer = kill_after_checkpoint(folder / "checkpoints", rank=1)
    result, _ = materialize(store, spec)
    killer.join()
    assert not result.success and ranks() == {}
    said, _ = failure_of(result)
    saved = checkpoints.latest(folder / "checkpoints")
    assert saved is not None and EVERY <= saved.step < STEPS
    assert said.startswith(f"{spec.run_id}: rank 1 was killed by SIGKILL, perhaps for want of memory")
    assert said.endswith(f"it goes on after step {saved.step}.")
    [row] = store.rows("runs", spec.run_id)
    assert (row["status"], row["attempts"]) == ("failed", 1)
    assert not list(folder.glob(".torchrun-*"))

    (folder / ".torchrun-99999999").mkdir()  # as a launch leaves it that was killed
    alone = pretraining(undisturbed, processes=1, accumulate=2)
    assert alone.run_id == spec.run_id  # as many videos a step
    result, log = materialize(store, alone)
    assert result.success, failure_of(result)
    assert f"1 × cpu, going on after step {saved.step}" in log
    assert not list(folder.glob(".torchrun-*"))
    assert "saved by 2 ranks, and 1 go on" in log and "every clip is drawn once" in log
    # What Dagster's processes trained by twos and then alone is what one rank trains undisturbed.
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["loss"] for row in rows] == pytest.approx(losses_of_one_process(store, spec, tmp_path), rel=1e-4)


def test_an_exception_in_one_rank_is_what_the_asset_shows(store: Store, undisturbed: Whole) -> None:
    ledger = undisturbed.ledger("finetuned")
    rows = store.read("snapshot_clips", ledger["snapshot_id"])
    place = rows["split"].to_pylist().index("train")
    classes = rows["class_id"].to_pylist()
    classes[place] = 99  # no class of the snapshot's: refused by the rank that the clip comes to
    column = rows.column_names.index("class_id")
    changed = rows.set_column(column, rows.schema.field(column), pa.array(classes, rows.schema.field(column).type))
    store.write("snapshot_clips", changed.to_pylist(), ledger["snapshot_id"])
    config = FitConfig(STEPS, EVERY, 0, OptimConfig(1e-3, 2))
    settings = SupervisedSettings(LoaderConfig(2, frames=8, size=32), config)
    spec = RunSpec("finetuned", ledger["snapshot_id"], ledger["parent"], settings, processes=2)
    result, _ = materialize(store, spec)
    assert not result.success
    said, shown = failure_of(result)
    cause = said.removeprefix(f"{spec.run_id}: ")
    assert cause.startswith(("rank 0 failed: ValueError: ", "rank 1 failed: ValueError: "))
    assert "class ids [99] in a supervised batch" in cause
    assert "in losses" in shown[cause[: len("rank 0")]]  # its traceback


def test_the_cause_comes_before_what_it_led_to(tmp_path: Path) -> None:
    def failed(rank: int, exitcode: int, text: str | None, moment: int = 0) -> ProcessFailure:
        file = tmp_path / f"{rank}.json"
        if text is not None:
            extra = {"py_callstack": f"Traceback of {text}", "timestamp": "5"}
            file.write_text(json.dumps({"message": {"message": text, "extraInfo": extra}}))
            os.utime(file, ns=(moment, moment))
        return ProcessFailure(rank, 1000 + rank, exitcode, str(file))

    now = time.time_ns()
    lost = failed(0, -signal.SIGTERM, "RuntimeError: Connection closed by peer", now)  # killed on its way out
    ended = failed(4, -signal.SIGTERM, None)
    found = failures_of({0: lost, 4: ended, 1: failed(1, 1, "ValueError: no", now - 1_000_000)})
    assert [str(failure) for failure in found] == [
        "rank 1 failed: ValueError: no",
        "rank 0 failed: RuntimeError: Connection closed by peer",
        "rank 4 was killed by SIGTERM",
    ]
    assert found[1].traceback == "Traceback of RuntimeError: Connection closed by peer"
    [first, second, third] = failures_of({4: ended, 0: lost, 3: failed(3, -signal.SIGSEGV, None)})
    assert [str(first), second.rank, third.rank] == ["rank 3 was killed by SIGSEGV", 0, 4]
    # A rank that waits in vain for another's answer is aborted.
    waited = failed(2, -signal.SIGABRT, None)
    before = failed(1, 1, "ValueError: no", now - 2_000_000_000)
    assert [failure.rank for failure in failures_of({2: waited, 1: before})] == [1, 2]
    # A rank that does not end by TERM is killed by torchrun when its time is over.
    stuck = failed(2, -signal.SIGKILL, None)
    raised = failed(1, 1, "ValueError: no", now - 300_000_000_000)
    assert [failure.rank for failure in failures_of({2: stuck, 1: raised})] == [1, 2]
    assert str(failures_of({5: failed(5, 3, None)})[0]) == "rank 5 ended with exit status 3"
