"""Weights from one stage into the next: explicit about every tensor, an error for any that does not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import checkpoint as checkpoints
from model.checkpoint import CheckpointError
from model.classifier import Classifier, ClassifierConfig
from model.pretrainer import Pretrainer, PretrainerConfig

FRESH_AFTER_PRETRAINING = ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")
DROPPED_OF_PRETRAINING = ("mask_token", "encoder.norm.", "encoder_to_decoder.", "decoder.")
HEAD = ("head.weight", "head.bias")


class TransferError(Exception):
    """Weights that do not fit. The message lists every tensor concerned."""


@dataclass(frozen=True)
class TransferReport:
    """What became of each tensor: names in the source for ``dropped``, in the new model for the others."""

    source: str
    loaded: tuple[str, ...]
    dropped: tuple[str, ...]
    fresh: tuple[str, ...]
    head: str

    def __str__(self) -> str:
        dropped = sorted({name.split(".blocks.")[0] if ".blocks." in name else name for name in self.dropped})
        return (
            f"from {self.source}: {len(self.loaded)} tensors loaded; dropped {', '.join(dropped) or 'nothing'};"
            f" fresh {', '.join(self.fresh) or 'nothing'}; head: {self.head}"
        )


def transfer(model: Classifier, path: Path) -> TransferReport:
    """Fill ``model`` in place from the checkpoint in folder ``path``, of pre-training or of a classifier.

    Raises TransferError if anything but what the report names differs.
    """
    source = checkpoints.read(path)
    weights = checkpoints.load_weights(path)
    if source.class_names is None:
        return from_pretrainer(model, weights, str(path))
    return from_classifier(model, weights, source.class_names, str(path))


def from_pretrainer(model: Classifier, weights: Mapping[str, Tensor], source: str) -> TransferReport:
    """Take the encoder. Its last norm is dropped: the classifier pools first and norms after, with a fresh one."""
    dropped = tuple(name for name in weights if name.startswith(DROPPED_OF_PRETRAINING))
    taken = {name: tensor for name, tensor in weights.items() if name not in dropped}
    stray = sorted(name for name in taken if not name.startswith("encoder."))
    if stray:
        raise TransferError(f"{source}: unexpected {', '.join(stray)}")
    renamed = {name.removeprefix("encoder."): tensor for name, tensor in taken.items()}
    load(model, renamed, FRESH_AFTER_PRETRAINING, source)
    return TransferReport(source, tuple(renamed), dropped, FRESH_AFTER_PRETRAINING, "fresh (pre-training has none)")


def from_classifier(
    model: Classifier, weights: Mapping[str, Tensor], class_names: Sequence[str], source: str
) -> TransferReport:
    """Take everything; the head's rows go by class name, or start fresh if the source lacks a class of the model."""
    wanted = model.config.class_names
    lacking = [name for name in wanted if name not in class_names]
    taken = dict(weights)
    fresh: tuple[str, ...] = ()
    if list(wanted) == list(class_names):
        head = f"kept ({len(wanted)} classes)"
    elif lacking:
        head = f"fresh: the source lacks {len(lacking)} of {len(wanted)} classes, first {lacking[0]!r}"
        fresh = HEAD
        taken = {name: tensor for name, tensor in weights.items() if name not in HEAD}
    else:
        head = f"re-gathered by name: {len(wanted)} of the source's {len(class_names)} classes"
        rows = torch.tensor([class_names.index(name) for name in wanted])
        taken.update({name: weights[name][rows] for name in HEAD if name in weights})
    load(model, taken, fresh, source)
    return TransferReport(source, tuple(taken), fresh, fresh, head)


def load(model: Classifier, weights: Mapping[str, Tensor], fresh: tuple[str, ...], source: str) -> None:
    """Load all but the ``fresh`` tensors; TransferError for one that is missing, unexpected or of another shape."""
    own = model.state_dict()
    missing = sorted(own.keys() - weights.keys() - set(fresh))
    unexpected = sorted(weights.keys() - own.keys() | (weights.keys() & set(fresh)))
    reshaped = sorted(
        f"{name} {tuple(weights[name].shape)} for {tuple(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if own[name].shape != weights[name].shape
    )
    problems = [
        f"{what} {', '.join(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise TransferError(f"{source} does not fit size {model.config.size.name}: {'; '.join(problems)}")
    model.load_state_dict({**own, **weights})


def load_pretrainer(path: Path) -> Pretrainer:
    """The pre-training model of the checkpoint in folder ``path``, on the CPU."""
    model = Pretrainer(PretrainerConfig.from_dict(_config(path, Pretrainer.kind)))
    model.load_state_dict(checkpoints.load_weights(path))
    return model


def load_classifier(path: Path) -> Classifier:
    """The classifier of the checkpoint in folder ``path``, on the CPU."""
    model = Classifier(ClassifierConfig.from_dict(_config(path, Classifier.kind)))
    model.load_state_dict(checkpoints.load_weights(path))
    return model


def _config(path: Path, kind: str) -> dict[str, Any]:
    source = checkpoints.read(path)
    if source.model_kind != kind:
        raise CheckpointError(f"{path} holds a {source.model_kind}, not a {kind}")
    return dict(source.model_config)
