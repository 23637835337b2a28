"""Our files of weights: safetensors, with the kind of model and its configuration in the header.

``weights.safetensors`` of a checkpoint is one, and so is what ``python -m model convert --to reelhouse`` writes.
Reading one executes nothing.
"""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

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


def read_header(path: Path) -> str | None:
    """What our header of the file ``path`` says, as JSON; None if the file is not ours.

    Raises CheckpointError for a file that is not there, or is no safetensors file but is named like one.
    """
    if path.is_file() and path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(HEADER)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}. Fetch or write it again") from error


def read_config(path: Path) -> tuple[str, ModelConfig]:
    """Kind and configuration of the model in a checkpoint's folder, or in a file of ours.

    Raises CheckpointError if there is none: the message says what to do.
    """
    file = _file(path)
    header = read_header(file)
    if header is None:
        raise _of_others(file)
    try:
        fields = json.loads(header)
        kind: str = fields["kind"]
        config = CONFIGS[kind].from_dict(fields["config"])
        _ = config.grid  # raises for what are no numbers, and for a clip that does not divide
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{file}: its header is not one that this version writes ({type(error).__name__}: {error})."
            " Fetch or write it again"
        ) from error
    return kind, config


def read_weights(path: Path) -> Weights:
    """The weights, on the CPU, of a checkpoint's folder or of a file of ours. Raises as :func:`read_config`."""
    kind, config = read_config(path)
    return Weights(str(path), kind, config, load_file(_file(path)))


def refuse_folder_of_folders(path: Path) -> None:
    """CheckpointError for a folder of ours whose weights lie deeper: the message names where."""
    steps = sorted((path / "checkpoints").glob("step-*"), key=lambda step: (len(step.name), step.name))
    if steps:
        raise CheckpointError(f"{path} is the folder of a run. Give its newest checkpoint: {steps[-1]}")
    models = sorted(file.parent.name for file in path.glob(f"[!.]*/{WEIGHTS}"))
    if models:
        raise CheckpointError(f"{path} holds several models. Give the folder of one: {', '.join(models)}")


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    if (path / WEIGHTS).exists():
        return path / WEIGHTS
    if (path / "config.json").exists():
        raise _of_others(path)
    refuse_folder_of_folders(path)
    if (path / "weights.pt").exists():
        raise CheckpointError(
            f"{path} is a checkpoint of an earlier version, which wrote weights.pt: remove the run's folder and train"
            " again"
        )
    raise CheckpointError(f"{path} has no {WEIGHTS}: it is no checkpoint. Give a folder that has, or a file of weights")


def _of_others(path: Path) -> CheckpointError:
    command = f"python -m model convert {shlex.quote(str(path))}"
    out = shlex.quote(str(path.with_suffix(".converted.safetensors")))
    return CheckpointError(f"{path} is not of Reelhouse. Convert it: `{command} {out} --to reelhouse`")
