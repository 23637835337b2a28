"""Weights into any layout: the official checkpoints, Hugging Face's ``transformers``, and ours."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from model import huggingface
from model.classifier import Classifier
from model.weights import CheckpointError, Weights, save_tensors, write_weights


def write_official(path: Path, weights: Weights) -> tuple[str, ...]:
    """A PyTorch file as the official code reads it. Returns what it has no place for."""
    temporary = path.with_name(f".{path.name}.tmp")
    torch.save({"model": dict(weights.tensors)}, temporary)
    temporary.rename(path)
    lost = "the clip's size" if not weights.class_names else "the clip's size and the class names"
    return (f"left out: {lost}, for which the layout has no place",)


def write_huggingface(path: Path, weights: Weights) -> tuple[str, ...]:
    """A folder that ``transformers`` loads. Raises CheckpointError for a kind of model that it does not have."""
    if weights.kind not in huggingface.ARCHITECTURES:
        raise CheckpointError(
            f"{weights.source} holds {weights.kind}: transformers has no class for an encoder that is pooled and normed"
            " but has no head. Convert it to official or reelhouse"
        )
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_tensors(temporary / "model.safetensors", huggingface.to_their_names(weights.tensors), {"format": "pt"})
    (temporary / "config.json").write_text(json.dumps(huggingface.config_json(weights.kind, weights.config), indent=2))
    processor = json.dumps(huggingface.processor_json(weights.config), indent=2)
    (temporary / "preprocessor_config.json").write_text(processor)
    temporary.rename(path)
    norm = "fc_norm" if weights.kind == Classifier.kind else "decoder.norm"
    return (f"in transformers {norm} adds 1e-5 to the variance, whatever the configuration says; here it is 1e-6",)


def write_reelhouse(path: Path, weights: Weights) -> tuple[str, ...]:
    """Our own file, whose name has to end in ``.safetensors``."""
    write_weights(path, weights.kind, weights.config, weights.tensors)
    return ()


WRITERS: dict[str, Callable[[Path, Weights], tuple[str, ...]]] = {
    "official": write_official,
    "huggingface": write_huggingface,
    "reelhouse": write_reelhouse,
}
