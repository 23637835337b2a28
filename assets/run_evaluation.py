"""An evaluation run: the scores of a checkpoint on a snapshot's split, as ``result.json`` has them.

Every rank scores its share of the clips. A run that is stopped begins anew: it takes minutes, and a score is of all
clips or of none.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

from assets.ending import anywhere, patient_group
from assets.run_clips import Say, open_split
from assets.stages import EvaluationSettings, RunSpec
from loaders.dali_choice import evaluation_loader
from model.classifier import Classifier
from model.evaluation import Prediction, predict, score
from model.transfer import load_classifier
from warehouse.catalog.sample import Sample
from warehouse.store import Store

LOG_SECONDS = 5.0


def evaluate_run(
    spec: RunSpec,
    settings: EvaluationSettings,
    store: Store,
    device: torch.device,
    stop: Callable[[], bool],
    say: Say,
) -> dict[str, Any]:
    """Score the parent checkpoint on the snapshot's evaluation split; on every rank.

    Raises:
        EvaluationClipError: a clip cannot be read or decoded.
        EvaluationError: a clip has no class of the model's, or there are no clips.
    """
    if spec.parent is None:
        raise ValueError(f"{spec.run_id}: an evaluation needs the checkpoint of another stage")
    samples = list(open_split(spec, store, settings.split, say)[1])
    rank, ranks = dist.get_rank(), dist.get_world_size()
    say(
        f"evaluation: {len(samples)} {settings.split} clips, {settings.loader.views} views each, on {ranks} × "
        f"{device.type}"
    )
    model = load_classifier(store.root / spec.parent).to(device).eval()
    own: list[Prediction] = []
    stopped = False
    for prediction in _predictions(model, samples[rank::ranks], settings, device, say):
        own.append(prediction)
        if stopped := stop():
            break
    group = patient_group()
    if anywhere(stopped, group):
        return {"status": "cancelled", "checkpoint": spec.parent}
    shares: list[Any] = [None] * ranks
    dist.all_gather_object(shares, own, group=group)
    by_clip = {sample.clip_id: place for place, sample in enumerate(samples)}
    found = sorted((p for share in shares for p in share), key=lambda p: by_clip[p.clip_id])
    scores = score(found, list(by_clip), model.config.class_names)
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


def _predictions(
    model: Classifier, samples: Sequence[Sample], settings: EvaluationSettings, device: torch.device, say: Say
) -> Iterator[Prediction]:
    """A rank's predictions; says now and then how far they are. A rank may have no clips."""
    if not samples:
        return
    batches, how = evaluation_loader(samples, settings.loader, device)
    say(how)
    said = started = time.monotonic()
    with batches:
        for done, prediction in enumerate(predict(model, batches, device), start=1):
            yield prediction
            now = time.monotonic()
            if now - said > LOG_SECONDS:
                said = now
                left = (now - started) / done * (len(samples) - done)
                say(f"evaluation: {done}/{len(samples)} clips of rank {dist.get_rank()}  {left:.0f} s left")
