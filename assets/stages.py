"""What a training stage is told: frozen settings that go as JSON to the training entry point and into the ledger."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loaders.views import EvaluationConfig, LoaderConfig
from model.optim import OptimConfig
from model.training import FitConfig
from warehouse.store import fingerprint, replace_file


@dataclass(frozen=True)
class PretrainSettings:
    """Masked pre-training of a fresh model of size ``size`` (a name in ``model.sizes``)."""

    size: str
    loader: LoaderConfig
    fit: FitConfig
    tube_ratio: float = 0.9
    cell_ratio: float = 0.5


@dataclass(frozen=True)
class SupervisedSettings:
    """Classification, from the weights of the stage before (post-pre-training and fine-tuning differ in numbers alone).

    A size is not given: it is that of the weights.
    """

    loader: LoaderConfig
    fit: FitConfig
    drop_path: float = 0.1
    head_dropout: float = 0.0
    label_smoothing: float = 0.1


@dataclass(frozen=True)
class EvaluationSettings:
    """Multi-view scoring of the split ``split``."""

    loader: EvaluationConfig
    split: str = "val"


Settings = PretrainSettings | SupervisedSettings | EvaluationSettings


@dataclass(frozen=True)
class Recipe:
    """All stages of a run, and how many processes train (one for each GPU; one on a CPU)."""

    name: str
    pretrained: PretrainSettings
    post_pretrained: SupervisedSettings
    finetuned: SupervisedSettings
    evaluation: EvaluationSettings
    processes: int


@dataclass(frozen=True)
class RunSpec:
    """One run: a stage's settings on a snapshot, from a parent checkpoint (relative to the data root) if it has one."""

    stage: str
    snapshot_id: str
    parent: str | None
    settings: Settings

    @property
    def run_id(self) -> str:
        """Stage and digest of all that determines the run's result: the same run has the same id, and is not repeated.

        The numbers of loader workers and prefetched batches do not change what comes out, and are left out.
        """
        settings = asdict(self.settings)
        settings["loader"] = {k: v for k, v in settings["loader"].items() if k not in ("workers", "prefetch_batches")}
        return f"{self.stage}-{fingerprint(self.stage, self.snapshot_id, self.parent, settings)[:12]}"

    @property
    def checkpoint(self) -> str:
        """Where a training run leaves its last checkpoint, relative to the data root."""
        if isinstance(self.settings, EvaluationSettings):
            raise ValueError(f"{self.run_id} is an evaluation: it leaves no checkpoint")
        return f"runs/{self.run_id}/checkpoints/step-{self.settings.fit.steps:06d}"

    def write(self, folder: Path, data_root: Path) -> Path:
        """Write ``config.json`` for the training entry point and return its path."""
        content = {"run_id": self.run_id, "data_root": str(data_root), **asdict(self)}
        path = folder / "config.json"
        replace_file(path, json.dumps(content, indent=2).encode())
        return path


def read_spec(path: Path) -> tuple[RunSpec, Path]:
    """The run that ``config.json`` describes, and its data root."""
    content = json.loads(path.read_text())
    spec = RunSpec(
        stage=content["stage"],
        snapshot_id=content["snapshot_id"],
        parent=content["parent"],
        settings=_settings(content["stage"], content["settings"]),
    )
    return spec, Path(content["data_root"])


def _settings(stage: str, fields: dict[str, Any]) -> Settings:
    if stage == "evaluation":
        return EvaluationSettings(**{**fields, "loader": EvaluationConfig(**fields["loader"])})
    optim = OptimConfig(**{**fields["fit"]["optim"], "betas": tuple(fields["fit"]["optim"]["betas"])})
    fit = FitConfig(**{**fields["fit"], "optim": optim})
    loader = {**fields["loader"], "unflipped": tuple(fields["loader"]["unflipped"])}
    parts = {**fields, "loader": LoaderConfig(**loader), "fit": fit}
    return PretrainSettings(**parts) if stage == "pretrained" else SupervisedSettings(**parts)
