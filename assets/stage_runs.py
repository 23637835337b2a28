"""Running a stage: a ``torchrun`` process under Dagster Pipes, and its rows of the ledger."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from assets import run_previews, thumbnails
from assets.derived_stages import FeatureSettings
from assets.ending import LAUNCHER
from assets.launch import read_failures
from assets.metadata_baseline import metadata_baseline
from assets.stages import EvaluationSettings, RunSpec, TrainingSettings
from assets.student_scores import compared, note_agreement
from model import checkpoint as checkpoints
from model.course import DivergedLoss, NonFiniteLoss
from warehouse.catalog.build import build_catalog
from warehouse.store import Store

FAILURES = "failures_of_ranks.json"
DIVERGENCES = (NonFiniteLoss.__name__, DivergedLoss.__name__)
"""Errors that going on as before would repeat."""
"""File in the run's folder: how ranks ended that failed in the last attempt."""
SAVE_SECONDS = 300
"""How long the ranks of a cancelled stage may take to save (torchrun would kill them after 30)."""
TERMINATION_SECONDS = SAVE_SECONDS + 30.0
"""How long torchrun may take to end after a cancel."""


def run_stages(
    context: dg.AssetExecutionContext, store: Store, specs: Mapping[str, RunSpec]
) -> dg.MaterializeResult:
    """Run what an asset stands for, by name, one after the other; what the second and others show has their name
    before it."""
    shown: dict[str, Any] = {}
    for name, spec in specs.items():
        found = run_stage(context, store, spec)
        shown |= {f"{name}: {key}": value for key, value in found.items()} if shown else found
    if "evaluation" in specs and len(specs) > 1:
        if note_agreement(store, specs):
            build_catalog(store)
        shown |= run_previews.of_models(compared(store, specs))
    return dg.MaterializeResult(metadata=shown)


def run_stage(context: dg.AssetExecutionContext, store: Store, spec: RunSpec) -> dict[str, Any]:
    """Run a stage unless it is finished already; write its rows of the ledger, refresh the catalog, and return what
    the asset is to show."""
    folder = store.runs / spec.run_id
    known = store.rows("runs", spec.run_id)
    if known and known[0]["status"] == "finished" and (folder / "result.json").exists():
        context.log.info(f"{spec.run_id} is finished: nothing to do")
        return _materialized(store, spec, _result(folder), skipped=True)
    if spec.parent is not None and not (store.root / spec.parent).exists():
        raise dg.Failure(f"{spec.stage} starts from {spec.parent}, which is not there: materialise the stage before it")
    _start(store, spec, known)
    command = [
        *(sys.executable, "-m", "assets.launch", str(folder / FAILURES)),
        *("--standalone", "--nproc-per-node", str(spec.processes), "--shutdown-timeout", str(SAVE_SECONDS)),
        *("-m", "assets.train", str(spec.write(folder, store.root))),
    ]
    client = dg.PipesSubprocessClient(termination_timeout_seconds=TERMINATION_SECONDS)
    for left in ("result.json", FAILURES):
        (folder / left).unlink(missing_ok=True)
    try:
        client.run(
            context=context,
            command=command,
            # Threads that wait must sleep: spinning, they take the cores from the loader's workers that they wait for.
            env={LAUNCHER: str(os.getpid()), "OMP_WAIT_POLICY": "PASSIVE"},
            cwd=str(Path(__file__).parent.parent),
        )
    except Exception as error:  # of Dagster, which exports no narrower class: it ended with another status than 0
        raise _failure(spec, folder) from error
    finally:
        # Also when the run was cancelled or failed: its checkpoint and its time belong in the ledger.
        if (folder / "result.json").exists():
            _finish(store, spec, _result(folder))
        else:
            [row] = store.rows("runs", spec.run_id)
            store.write("runs", [row | {"status": "failed", "finished": datetime.now(UTC)}], spec.run_id)
        build_catalog(store)
    return _materialized(store, spec, _result(folder), skipped=False)


def _failure(spec: RunSpec, folder: Path) -> dg.Failure:
    """What Dagster is to show of a stage that failed: which rank by what, and where it goes on."""
    failures = read_failures(folder / FAILURES)
    saved = checkpoints.latest(folder / "checkpoints")
    again = f"after step {saved.step}" if saved else "from the start"
    cause = "; ".join(map(str, failures)) or "torchrun ended before any rank did; its own message is in the log"
    if (folder / "result.json").exists():
        cause = "it was asked to stop" + (", and saved" if saved else "")
    if isinstance(spec.settings, FeatureSettings):
        again = "with the clips that are missing"
    remedy = f"Materialise it again when that is mended: it goes on {again}"
    if any(name in cause for name in DIVERGENCES):
        remedy = (
            f"Other numbers in [training.numbers.{spec.stage}] (rate, warmup, clip_grad) make another run, from its"
            " start; with the same ones it goes on from its last checkpoint, and here again"
        )
    return dg.Failure(
        f"{spec.run_id}: {cause}. {remedy}.",
        metadata={f"rank {failure.rank}": failure.traceback for failure in failures if failure.traceback},
    )


def _start(store: Store, spec: RunSpec, known: list[dict[str, Any]]) -> None:
    row = {
        "run_id": spec.run_id,
        "stage": spec.stage,
        "snapshot_id": spec.snapshot_id,
        "parent": spec.parent,
        "config": json.dumps(asdict(spec.settings)),
        "status": "running",
        "started": known[0]["started"] if known else datetime.now(UTC),
        "finished": None,
        "attempts": known[0]["attempts"] + 1 if known else 1,
        "seconds": known[0]["seconds"] if known else None,
    }
    store.write("runs", [row], spec.run_id)


def _finish(store: Store, spec: RunSpec, result: Mapping[str, Any]) -> None:
    """Write the run's checkpoints and scores, and then that it has ended."""
    now = datetime.now(UTC)
    if isinstance(spec.settings, EvaluationSettings) and result["status"] == "finished":
        split = spec.settings.split
        metrics = result["scores"] | metadata_baseline(store, spec.snapshot_id, split)
        shared = {"run_id": spec.run_id, "checkpoint": spec.parent, "snapshot_id": spec.snapshot_id, "split": split}
        scores = [shared | {"metric": name, "value": float(value)} for name, value in metrics.items()]
        store.write("scores", scores, spec.run_id)
    elif isinstance(spec.settings, TrainingSettings):
        folders = ["/".join(filter(None, (result["checkpoint"], name))) for name in spec.models]
        saved = {"run_id": spec.run_id, "step": result["step"], "created": now}
        store.write("checkpoints", [saved | {"checkpoint": folder} for folder in folders], spec.run_id)
    [row] = store.rows("runs", spec.run_id)
    seconds = (row["seconds"] or 0.0) + result["attempt_seconds"]
    store.write("runs", [row | {"status": result["status"], "finished": now, "seconds": seconds}], spec.run_id)


def _result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def _materialized(store: Store, spec: RunSpec, result: Mapping[str, Any], skipped: bool) -> dict[str, Any]:
    metadata = {"run": spec.run_id, "snapshot": spec.snapshot_id, "checkpoint": result["checkpoint"]}
    if isinstance(spec.settings, EvaluationSettings):
        shown = run_previews.of_evaluation(result["class_names"], result["confusion"])
    elif isinstance(spec.settings, FeatureSettings):
        shown = {name: result[name] for name in ("vectors", "clips", "failed")}
        if sheet := thumbnails.of_features(store, spec.run_id, spec.snapshot_id):
            shown["clips and those nearest to them"] = sheet
    else:
        [snapshot] = store.rows("snapshots", spec.snapshot_id)
        classes = None if snapshot["classes"] is None else len(snapshot["classes"])
        shown = run_previews.of_training(store, spec.run_id, spec.settings, classes)
    return {**metadata, **result.get("scores", {}), "nothing to do": skipped, **shown}
