"""Our files of weights: safetensors, with the kind of model and its configuration in the header.

``weights.safetensors`` of a checkpoint is one, and so is what ``python -m model convert --to reelhouse`` writes.
Reading one executes nothing.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.classifier import Classifier, ClassifierConfig
from model.features import FeatureConfig, FeatureExtractor
from model.pretrainer import Pretrainer, PretrainerConfig

WEIGHTS = "weights.safetensors"
HEADER = "reelhouse"
"""Key of the header's metadata under which kind and configuration lie, as JSON."""

ModelConfig = PretrainerConfig | ClassifierConfig | FeatureConfig
CONFIGS: dict[str, type[ModelConfig]] = {
    Pretrainer.kind: PretrainerConfig,
    Classifier.kind: ClassifierConfig,
    FeatureExtractor.kind: FeatureConfig,
}


class CheckpointError(Exception):
    """A checkpoint, or a file of weights, that cannot be used as asked. The message names it."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a model by their names in it, how to build it, and where they come from."""

    source: str
    kind: str
    config: ModelConfig
    tensors: Mapping[str, Tensor]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the head's rows; none for a model without a head."""
        return self.config.class_names if isinstance(self.config, ClassifierConfig) else ()


def build(config: ModelConfig) -> Pretrainer | Classifier | FeatureExtractor:
    """A model with fresh weights."""
    if isinstance(config, PretrainerConfig):
        return Pretrainer(config)
    return Classifier(config) if isinstance(config, ClassifierConfig) else FeatureExtractor(config)


def write_weights(path: Path, kind: str, config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Write ``path`` whole or not at all."""
    header = json.dumps({"kind": kind, "config": asdict(config)})
    save_tensors(path, tensors, {HEADER: header, "format": "pt"})


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file under a temporary name, and rename it when it is on the disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, dict(metadata))
    # safetensors lets nobody else read what it writes: whoever may read the folder may read the weights.
    temporary.chmod(path.parent.stat().st_mode & 0o666)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.rename(path)


def read_header(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Kind and configuration in the safetensors file ``path``; None if the file is not ours.

    Raises CheckpointError for a file that is not there or is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}. Fetch or write it again") from error
    if header is None:
        return None
    fields = json.loads(header)
    return fields["kind"], fields["config"]


def read_config(path: Path) -> tuple[str, ModelConfig]:
    """Kind and configuration of the model in a checkpoint's folder, or in a file of ours.

    Raises CheckpointError if there is none.
    """
    file = _file(path)
    header = read_header(file)
    if header is None:
        raise CheckpointError(f"{file} is not of Reelhouse: convert it with `python -m model convert`")
    kind, config = header
    if kind not in CONFIGS:
        raise CheckpointError(f"{file} holds a {kind!r}, which is none of {', '.join(CONFIGS)}")
    return kind, CONFIGS[kind].from_dict(config)


def read_weights(path: Path) -> Weights:
    """The weights, on the CPU, of a checkpoint's folder or of a file of ours. Raises as :func:`read_config`."""
    kind, config = read_config(path)
    return Weights(str(path), kind, config, load_file(_file(path)))


def _file(path: Path) -> Path:
    if path.is_dir() and not (path / WEIGHTS).exists():
        raise CheckpointError(
            f"{path} has no {WEIGHTS}: it is no checkpoint, or one of an earlier version, which wrote weights.pt;"
            " remove the run's folder and train again"
        )
    return path / WEIGHTS if path.is_dir() else path
