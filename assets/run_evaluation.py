"""An evaluation run: the scores of a checkpoint on a snapshot's split, as ``result.json`` has them."""

from typing import Any

import torch
import torch.distributed as dist

from assets.run_clips import Say, open_split
from assets.stages import EvaluationSettings, RunSpec
from loaders.dali_choice import evaluation_loader
from model.evaluation import evaluate
from model.transfer import load_classifier
from warehouse.store import Store


def evaluate_run(
    spec: RunSpec, settings: EvaluationSettings, store: Store, device: torch.device, say: Say
) -> dict[str, Any]:
    """Score the parent checkpoint on the snapshot's evaluation split."""
    if spec.parent is None or dist.get_world_size() != 1:
        raise ValueError(f"{spec.run_id}: an evaluation takes one process and the checkpoint of another stage")
    _, samples = open_split(spec, store, settings.split, say)
    say(f"evaluation: {len(samples)} {settings.split} clips, {settings.loader.views} views each")
    model = load_classifier(store.root / spec.parent)
    batches, how = evaluation_loader(samples, settings.loader, device)
    say(how)
    with batches:
        scores = evaluate(model, batches, [sample.clip_id for sample in samples], device)
    return {
        "status": "finished",
        "checkpoint": spec.parent,
        "split": settings.split,
        "scores": {
            "top1": scores.top1,
            "top5": scores.top5,
            "chance": scores.chance_uniform,
            "chance_largest_class": scores.chance_largest,
            "clips": len(scores.predictions),
        },
        "class_names": list(scores.class_names),
        "confusion": scores.confusion.tolist(),
        "predictions": {p.clip_id: scores.class_names[p.predicted] for p in scores.predictions},
    }
