"""Weights out of any layout: the official checkpoints, Hugging Face's ``transformers``, and ours.

Reading is strict: a tensor that is missing, unexpected or of another shape is an error that lists it, and what is left
out on purpose is named. Positions lie in none of the layouts; a model works them out for its own grid.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import huggingface
from model.blocks import NORM_EPSILON
from model.classifier import Classifier, ClassifierConfig
from model.features import FeatureConfig, FeatureExtractor
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES, Size
from model.tensor_files import read_tensors
from model.transfer import check_fit
from model.weights import (
    WEIGHTS,
    CheckpointError,
    ModelConfig,
    Weights,
    build,
    read_header,
    read_weights,
    refuse_folder_of_folders,
)

FRAMES, IMAGE = 16, 224
"""Of every official checkpoint that has been released."""
DECODER_DEPTHS = (4, 8)
"""Blocks in an official decoder: of the released recipes, and the default of its class."""
_CONFIG = "config.json"


@dataclass(frozen=True)
class Opened:
    """Weights out of a file of any layout, and what there is to say of them: what was left out or changed."""

    weights: Weights
    layout: str
    notes: tuple[str, ...]


def open_weights(
    path: Path,
    frames: int | None = None,
    image: int | None = None,
    class_names: Sequence[str] = (),
    size: Size | None = None,
) -> Opened:
    """Read weights of any layout: a file, a checkpoint's folder of ours, or a folder with a ``config.json``.

    Args:
        frames, image: the clip that the model is to take, by default what the file says, else 16 × 224.
        class_names: of a classifier, in the order of the head's rows, if the file does not say.
        size: for official names, if not one of ``model.sizes.SIZES``; by default it is told from the shapes.

    Raises:
        CheckpointError: the file cannot be used; the message says why.
        TransferError: tensors that are missing, unexpected or of another shape.
    """
    notes: list[str] = []
    if (path / WEIGHTS).exists() if path.is_dir() else read_header(path) is not None:
        layout, found = "reelhouse", read_weights(path)
        kind, tensors, config = found.kind, found.tensors, found.config
        if class_names:
            if not isinstance(config, ClassifierConfig):
                raise CheckpointError(f"{path} holds a model without a head, which has no classes to name")
            config = replace(config, class_names=_checked(class_names, len(config.class_names), path))
        config = replace(
            config,
            frames=config.frames if frames is None else frames,
            image=config.image if image is None else image,
        )
    else:
        file, described = (_in_folder(path), _described(path)) if path.is_dir() else (path, {})
        raw = read_tensors(file)
        if raw.left_out:
            notes.append(f"left out: {', '.join(raw.left_out)}")
        layout = "huggingface" if huggingface.is_huggingface(raw.tensors) else "official"
        tensors = huggingface.to_our_names(raw.tensors) if layout == "huggingface" else raw.tensors
        kind = _kind(tensors, file)
        if layout == "huggingface" and described:
            size = huggingface.size_of(described, str(path / _CONFIG))
            notes += _differences(described)
        size = size or _official_size(tensors, kind, file)
        # OpenGVLab's repositories keep the official arguments under a key of their own.
        theirs = described.get("model_config", {})
        if frames is None:
            frames = described.get("num_frames") or theirs.get("num_frames") or FRAMES
        if image is None:
            image = described.get("image_size") or theirs.get("img_size") or IMAGE
        config = _config(
            kind,
            size,
            frames,
            image,
            tuple(class_names) or (huggingface.class_names_of(described) if kind == Classifier.kind else ()),
            tensors,
            file,
        )
        halves = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()} - {"float32"})
        if halves:
            notes.append(f"{', '.join(halves)} became float32")
            tensors = {name: tensor.float() for name, tensor in tensors.items()}
    weights = Weights(str(path), kind, config, tensors)
    _check(weights)
    return Opened(weights, layout, tuple(notes))


def _check(weights: Weights) -> None:
    """Raise unless the tensors are exactly those of the model that the configuration describes."""
    try:
        with torch.device("meta"):
            own = build(weights.config).state_dict()
    except ValueError as error:
        raise CheckpointError(f"{weights.source}: {error}") from error
    check_fit(own, weights.tensors, (), weights.source, weights.config.size.name)


def _kind(tensors: Mapping[str, Tensor], file: Path) -> str:
    if not any(name.removeprefix("encoder.").startswith("patch_embed.proj.") for name in tensors):
        raise CheckpointError(
            f"{file} is of no layout that is known: names such as {', '.join(sorted(tensors)[:3])}. Known are the"
            " official VideoMAE V2 checkpoints, Hugging Face's VideoMAE, and Reelhouse's own"
        )
    if any(name.startswith(("decoder.", "encoder_to_decoder.", "encoder.")) for name in tensors):
        return Pretrainer.kind
    return Classifier.kind if "head.weight" in tensors else FeatureExtractor.kind


def _official_size(tensors: Mapping[str, Tensor], kind: str, file: Path) -> Size:
    """The size with these shapes. Heads cannot be told from shapes: they are those of the size."""
    encoder = "encoder." if kind == Pretrainer.kind else ""
    embedding, first = f"{encoder}patch_embed.proj.weight", f"{encoder}blocks.0.mlp.fc1.weight"
    if embedding not in tensors or first not in tensors:
        raise CheckpointError(f"{file} lacks {embedding} or {first}, which tell the size. Fetch it again")
    dim, _, tubelet, patch, _ = tensors[embedding].shape
    shape = (dim, _blocks(tensors, encoder), len(tensors[first]), patch, tubelet)
    for size in SIZES.values():
        if (size.dim, size.depth, size.hidden, size.patch, size.tubelet) == shape:
            break
    else:
        raise CheckpointError(
            f"{file} is of no known size: width {dim}, {shape[1]} blocks, MLP {shape[2]}, cubes of {tubelet} × {patch}²"
        )
    depth = _blocks(tensors, "decoder.")
    return replace(size, decoder_depth=depth) if kind == Pretrainer.kind and depth in DECODER_DEPTHS else size


def _blocks(tensors: Mapping[str, Tensor], stack: str) -> int:
    start = f"{stack}blocks."
    indices = {name.removeprefix(start).split(".")[0] for name in tensors if name.startswith(start)}
    return 1 + max(map(int, indices), default=-1)


def _config(
    kind: str,
    size: Size,
    frames: int,
    image: int,
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor],
    file: Path,
) -> ModelConfig:
    if kind == Pretrainer.kind:
        config: ModelConfig = PretrainerConfig(size, frames, image)
    elif kind == FeatureExtractor.kind:
        config = FeatureConfig(size, frames, image)
    else:
        return ClassifierConfig(size, frames, image, _checked(class_names, len(tensors["head.weight"]), file))
    if class_names:
        raise CheckpointError(f"{file} holds a {kind}, which has no classes to name")
    return config


def _checked(class_names: Sequence[str], rows: int, path: Path) -> tuple[str, ...]:
    """The names, of which there has to be one for each row of the head."""
    if len(class_names) != rows:
        raise CheckpointError(
            f"{path} has a head of {rows} classes, but {len(class_names) or 'no'} names of classes are given. Give a"
            f" file of {rows} lines, one name each in the order of the head (--classes; for official heads"
            " misc/label_map_k710.txt and its like in github.com/OpenGVLab/VideoMAEv2)"
        )
    return tuple(class_names)


def _in_folder(path: Path) -> Path:
    """The one file of weights in a folder."""
    names = ("model.safetensors", "pytorch_model.bin")
    found = [path / name for name in names if (path / name).exists()]
    if not found:
        refuse_folder_of_folders(path)
        sharded = next(path.glob("*.index.json"), None)
        why = f"its weights are in several files ({sharded.name}): save them as one" if sharded else "wrong folder?"
        raise CheckpointError(f"{path} has neither {WEIGHTS} nor {' nor '.join(names)}; {why}")
    return found[0]


def _described(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((path / _CONFIG).read_text()))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CheckpointError(f"{path / _CONFIG} is no JSON: {error}. Fetch it again") from error


def _differences(described: Mapping[str, Any]) -> list[str]:
    """What a ``config.json`` says and our models do not do."""
    notes = []
    epsilon = described.get("layer_norm_eps", 1e-12)  # the default of transformers
    if epsilon != NORM_EPSILON:
        notes.append(f"layer_norm_eps {epsilon} is not taken over: here it is {NORM_EPSILON}, as in the official code")
    if not described.get("norm_pix_loss", True):
        notes.append("norm_pix_loss false is not taken over: here what is predicted is always normalised")
    return notes
