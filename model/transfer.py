"""Weights from one stage into the next: explicit about every tensor, an error for any that does not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from model.classifier import Classifier
from model.features import FeatureExtractor
from model.pretrainer import Pretrainer
from model.weights import CheckpointError, Weights, build, read_weights

DROPPED_OF_PRETRAINING = ("mask_token", "encoder.norm.", "encoder_to_decoder.", "decoder.")
NORM = ("fc_norm.weight", "fc_norm.bias")
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


def transfer(model: Classifier | FeatureExtractor, path: Path) -> TransferReport:
    """Fill ``model`` in place from a checkpoint's folder or a file of ours, of whatever kind of model.

    Raises TransferError if anything but what the report names differs.
    """
    weights = read_weights(path)
    if weights.kind == Pretrainer.kind:
        return from_pretrainer(model, weights.tensors, str(path))
    return from_classifier(model, weights.tensors, weights.class_names, str(path))


def from_pretrainer(
    model: Classifier | FeatureExtractor, weights: Mapping[str, Tensor], source: str
) -> TransferReport:
    """Take the encoder. Its last norm is dropped: these models pool first and norm after, with a fresh norm."""
    dropped = tuple(name for name in weights if name.startswith(DROPPED_OF_PRETRAINING))
    taken = {name: tensor for name, tensor in weights.items() if name not in dropped}
    stray = sorted(name for name in taken if not name.startswith("encoder."))
    if stray:
        raise TransferError(f"{source}: unexpected {', '.join(stray)}")
    renamed = {name.removeprefix("encoder."): tensor for name, tensor in taken.items()}
    has_head = isinstance(model, Classifier)
    fresh = (*NORM, *HEAD) if has_head else NORM
    load(model, renamed, fresh, source)
    head = "fresh (pre-training has none)" if has_head else "none"
    return TransferReport(source, tuple(renamed), dropped, fresh, head)


def from_classifier(
    model: Classifier | FeatureExtractor, weights: Mapping[str, Tensor], class_names: Sequence[str], source: str
) -> TransferReport:
    """Take all of a classifier, or of a feature extractor (which has no ``class_names``).

    The head's rows go by class name, as those of Kinetics-710 to the heads of 400, 600 and 700 classes. The head starts
    fresh if the source lacks a class of the model, and is dropped if the model has none.
    """
    wanted = model.config.class_names if isinstance(model, Classifier) else ()
    lacking = [name for name in wanted if name not in class_names]
    taken = dict(weights)
    fresh: tuple[str, ...] = ()
    if list(wanted) == list(class_names):
        head = f"kept ({len(wanted)} classes)" if wanted else "none"
    elif not wanted or lacking:
        taken = {name: tensor for name, tensor in weights.items() if name not in HEAD}
        fresh = HEAD if wanted else ()
        head = f"dropped ({len(class_names)} classes)"
        if lacking:
            head = f"fresh: the source lacks {len(lacking)} of {len(wanted)} classes, first {lacking[0]!r}"
    else:
        head = f"re-gathered by name: {len(wanted)} of the source's {len(class_names)} classes"
        row = {name: i for i, name in enumerate(class_names)}
        rows = torch.tensor([row[name] for name in wanted])
        taken.update({name: weights[name][rows] for name in HEAD if name in weights})
    load(model, taken, fresh, source)
    dropped = tuple(name for name in weights if name not in taken)
    return TransferReport(source, tuple(taken), dropped, fresh, head)


def check_fit(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], fresh: Sequence[str], source: str, size: str
) -> None:
    """TransferError that lists each tensor that is missing in ``weights``, unexpected or of another shape.

    ``own`` is the model's state dict (on the meta device it costs no memory), ``fresh`` is what stays as it is there.
    """
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
        raise TransferError(f"{source} does not fit size {size}: {'; '.join(problems)}")


def load(
    model: Classifier | FeatureExtractor, weights: Mapping[str, Tensor], fresh: tuple[str, ...], source: str
) -> None:
    """Load all but the ``fresh`` tensors. Raises as :func:`check_fit`, and then leaves the model as it is."""
    own = model.state_dict()
    check_fit(own, weights, fresh, source, model.config.size.name)
    model.load_state_dict({**own, **weights})


def load_pretrainer(path: Path) -> Pretrainer:
    """The pre-training model of a checkpoint's folder or of a file of ours, on the CPU."""
    model = _load(path, Pretrainer.kind)
    assert isinstance(model, Pretrainer)
    return model


def load_classifier(path: Path) -> Classifier:
    """The classifier of a checkpoint's folder or of a file of ours, on the CPU."""
    model = _load(path, Classifier.kind)
    assert isinstance(model, Classifier)
    return model


def _load(path: Path, kind: str) -> nn.Module:
    weights = read_weights(path)
    if weights.kind != kind:
        raise CheckpointError(f"{path} holds a {weights.kind}, not a {kind}")
    return filled(weights)


def filled(weights: Weights) -> Pretrainer | Classifier | FeatureExtractor:
    """The model of the weights. TransferError where they do not fit its configuration."""
    model = build(weights.config)
    check_fit(model.state_dict(), weights.tensors, (), weights.source, weights.config.size.name)
    model.load_state_dict(dict(weights.tensors))
    return model
