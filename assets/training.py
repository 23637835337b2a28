"""Assets from snapshots to scores: a stage is a ``torchrun`` process under Dagster Pipes, and a row in the ledger."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from assets import run_previews
from assets.ending import LAUNCHER
from assets.metadata_baseline import metadata_baseline
from assets.stages import EvaluationSettings, Recipe, RunSpec
from warehouse.catalog.build import build_catalog
from warehouse.catalog.snapshots import current_snapshot, snapshot_splits
from warehouse.config import Config
from warehouse.store import Store

SAVE_SECONDS = 300
"""How long the ranks of a cancelled stage may take to save (torchrun would kill them after 30)."""
TERMINATION_SECONDS = SAVE_SECONDS + 30.0
"""How long torchrun may take to end after a cancel."""


def training_assets(config: Config, recipe: Recipe) -> list[dg.AssetsDefinition]:
    """The assets `pretrained`, `post_pretrained`, `finetuned` and `evaluation`."""
    store = Store(config.data_root)
    training = config.training

    labelled = sorted({training.post_pretrain, training.finetune})

    def specs() -> dict[str, RunSpec]:
        return run_specs(store, config, recipe)

    @dg.asset(group_name="training", kinds={"torch"}, deps=[training.pretrain])
    def pretrained(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """VideoMAE V2 pre-training: tube-masked encoder, running-cell-masked decoder."""
        return _stage(context, store, recipe, specs()["pretrained"])

    @dg.asset(group_name="training", kinds={"torch"}, deps=[*labelled, pretrained])
    def post_pretrained(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """Supervised post-pre-training on the labelled hybrid, from the pre-trained encoder."""
        return _stage(context, store, recipe, specs()["post_pretrained"])

    @dg.asset(group_name="training", kinds={"torch"}, deps=[*labelled, post_pretrained])
    def finetuned(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """Fine-tuning on the target collection, from the post-pre-trained classifier."""
        return _stage(context, store, recipe, specs()["finetuned"])

    @dg.asset(group_name="training", kinds={"torch"}, deps=[finetuned])
    def evaluation(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """Top-1 and top-5 of the fine-tuned model over several views a clip, beside chance and a metadata baseline."""
        return _stage(context, store, recipe, specs()["evaluation"])

    return [pretrained, post_pretrained, finetuned, evaluation]


def run_specs(store: Store, config: Config, recipe: Recipe) -> dict[str, RunSpec]:
    """The runs that the present snapshots and the recipe call for, by stage. Each starts from the one before."""
    training = config.training
    finetune = current_snapshot(store, training.finetune)
    pretrained = RunSpec("pretrained", current_snapshot(store, training.pretrain), None, recipe.pretrained)
    post_pretrained = RunSpec(
        "post_pretrained",
        current_snapshot(store, training.post_pretrain),
        pretrained.checkpoint,
        recipe.post_pretrained,
    )
    finetuned = RunSpec("finetuned", finetune, post_pretrained.checkpoint, recipe.finetuned)
    [collection] = [c for c in config.collections if c.name == training.finetune]
    splits = collection.splits or snapshot_splits(store, finetune)
    split = "val" if "val" in splits else "test"
    settings = replace(recipe.evaluation, split=split)
    evaluation = RunSpec("evaluation", finetune, finetuned.checkpoint, settings)
    return {spec.stage: spec for spec in (pretrained, post_pretrained, finetuned, evaluation)}


def _stage(context: dg.AssetExecutionContext, store: Store, recipe: Recipe, spec: RunSpec) -> dg.MaterializeResult:
    """Run a stage unless it is finished already; write its rows of the ledger and refresh the catalog."""
    folder = store.runs / spec.run_id
    known = store.rows("runs", spec.run_id)
    if known and known[0]["status"] == "finished" and (folder / "result.json").exists():
        context.log.info(f"{spec.run_id} is finished: nothing to do")
        return _materialized(store, spec, _result(folder), skipped=True)
    if spec.parent is not None and not (store.root / spec.parent).is_dir():
        raise dg.Failure(f"{spec.stage} starts from {spec.parent}, which is not there: materialise the stage before it")
    _start(store, spec, known)
    processes = 1 if isinstance(spec.settings, EvaluationSettings) else recipe.processes
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *("--shutdown-timeout", str(SAVE_SECONDS)),
        *("-m", "assets.train", str(spec.write(folder, store.root))),
    ]
    client = dg.PipesSubprocessClient(termination_timeout_seconds=TERMINATION_SECONDS)
    (folder / "result.json").unlink(missing_ok=True)
    try:
        client.run(
            context=context,
            command=command,
            # Threads that wait must sleep: spinning, they take the cores from the loader's workers that they wait for.
            env={LAUNCHER: str(os.getpid()), "OMP_WAIT_POLICY": "PASSIVE"},
            cwd=str(Path(__file__).parent.parent),
        )
    finally:
        # Also when the run was cancelled or failed: its checkpoint and its time belong in the ledger.
        if (folder / "result.json").exists():
            _finish(store, spec, _result(folder))
        else:
            [row] = store.rows("runs", spec.run_id)
            store.write("runs", [row | {"status": "failed", "finished": datetime.now(UTC)}], spec.run_id)
        build_catalog(store)
    return _materialized(store, spec, _result(folder), skipped=False)


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
    if isinstance(spec.settings, EvaluationSettings):
        split = spec.settings.split
        metrics = result["scores"] | metadata_baseline(store, spec.snapshot_id, split)
        shared = {"run_id": spec.run_id, "checkpoint": spec.parent, "snapshot_id": spec.snapshot_id, "split": split}
        scores = [shared | {"metric": name, "value": float(value)} for name, value in metrics.items()]
        store.write("scores", scores, spec.run_id)
    else:
        checkpoint = {"checkpoint": result["checkpoint"], "run_id": spec.run_id, "step": result["step"], "created": now}
        store.write("checkpoints", [checkpoint], spec.run_id)
    [row] = store.rows("runs", spec.run_id)
    seconds = (row["seconds"] or 0.0) + result["attempt_seconds"]
    store.write("runs", [row | {"status": result["status"], "finished": now, "seconds": seconds}], spec.run_id)


def _result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def _materialized(store: Store, spec: RunSpec, result: Mapping[str, Any], skipped: bool) -> dg.MaterializeResult:
    metadata = {"run": spec.run_id, "snapshot": spec.snapshot_id, "checkpoint": result["checkpoint"]}
    if isinstance(spec.settings, EvaluationSettings):
        shown = run_previews.of_evaluation(result["class_names"], result["confusion"])
    else:
        [snapshot] = store.rows("snapshots", spec.snapshot_id)
        classes = None if snapshot["classes"] is None else len(snapshot["classes"])
        shown = run_previews.of_training(store, spec.run_id, spec.settings, classes)
    return dg.MaterializeResult(metadata={**metadata, **result.get("scores", {}), "nothing to do": skipped, **shown})
