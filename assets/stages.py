"""What a training stage is told: frozen settings that go as JSON to the training entry point and into the ledger."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from assets.derived_stages import DistillSettings, FeatureSettings, Student
from assets.schedule import Epochs
from assets.start import Start
from loaders.views import EvaluationConfig, LoaderConfig
from loaders.windows import WindowConfig
from model.masking import DecoderMask
from model.optim import OptimConfig
from model.pretrainer import PretrainerConfig
from model.sizes import SIZES
from model.training import FitConfig
from warehouse.store import fingerprint, replace_file


@dataclass(frozen=True)
class PretrainSettings:
    """Masked pre-training of a fresh model of size ``size`` (a name in ``model.sizes``).

    The masks are ``model.pretrainer.PretrainerConfig``'s: what the encoder does not see, and what the decoder predicts.
    ``epochs`` is how long, where that hangs on the clips: :func:`of_length` makes it steps of ``fit``.
    """

    size: str
    loader: LoaderConfig
    fit: FitConfig
    tube_ratio: float = 0.9
    decoder_mask: DecoderMask = "running_cell"
    decoder_ratio: float = 0.5
    epochs: Epochs | None = None

    @property
    def model(self) -> PretrainerConfig:
        """The model that these settings describe."""
        loader = self.loader
        return PretrainerConfig(
            SIZES[self.size], loader.frames, loader.size, self.tube_ratio, self.decoder_ratio, self.decoder_mask
        )


@dataclass(frozen=True)
class SupervisedSettings:
    """Classification, from the weights of the stage before (post-pre-training and fine-tuning differ in numbers alone).

    A size is not given: it is that of the weights. ``epochs`` as in pre-training.
    """

    loader: LoaderConfig
    fit: FitConfig
    drop_path: float = 0.1
    head_dropout: float = 0.0
    label_smoothing: float = 0.1
    epochs: Epochs | None = None


@dataclass(frozen=True)
class EvaluationSettings:
    """Multi-view scoring of the split ``split``."""

    loader: EvaluationConfig
    split: str = "val"


TrainingSettings = PretrainSettings | SupervisedSettings | DistillSettings
Settings = TrainingSettings | EvaluationSettings | FeatureSettings
Trained = TypeVar("Trained", bound=TrainingSettings)


@dataclass(frozen=True)
class Recipe:
    """The stages of a run in their order, and how many processes train (one for each GPU; one on a CPU).

    A stage that is ``None`` is left out. ``start`` is a file of weights in its place, from which the stage after it
    starts. ``remarks`` says of a stage what its numbers follow, where the sources differ, and which are ours.
    ``keeps_head``: the numbers of fine-tuning are for a classifier that knows its classes already; a head that starts
    afresh would learn nothing at such rates.
    """

    name: str
    pretrained: PretrainSettings | None
    post_pretrained: SupervisedSettings | None
    finetuned: SupervisedSettings
    evaluation: EvaluationSettings
    processes: int
    distilled: DistillSettings | None = None
    features: FeatureSettings | None = None
    start: Start | None = None
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keeps_head: bool = False

    @property
    def stages(self) -> dict[str, Settings]:
        """What each stage that runs is told, by name, in their order."""
        every = {
            "pretrained": self.pretrained,
            "post_pretrained": self.post_pretrained,
            "finetuned": self.finetuned,
            "distilled": self.distilled,
            "evaluation": self.evaluation,
            "features": self.features,
        }
        return {name: settings for name, settings in every.items() if settings is not None}

    @property
    def size(self) -> str:
        """Size of the model that is trained."""
        if self.pretrained is not None:
            return self.pretrained.size
        if self.start is None:
            raise ValueError(f"recipe {self.name!r} neither pre-trains a model nor starts from a file of weights")
        return self.start.size


def videos_per_step(settings: TrainingSettings, processes: int) -> int:
    """Clips of a step over all processes, each counted once however many views there are of it."""
    return settings.loader.clips_per_batch * settings.fit.accumulate * processes


def of_length(settings: Trained, clips: int, processes: int) -> Trained:
    """The settings for a collection of ``clips`` clips: epochs, where they are given in epochs, become steps."""
    if settings.epochs is None:
        return settings
    fit = settings.epochs.fit(settings.fit, clips, videos_per_step(settings, processes))
    return replace(settings, fit=fit, epochs=None)


@dataclass(frozen=True)
class RunSpec:
    """One run: a stage's settings on a snapshot, from a parent checkpoint if it has one.

    ``parent`` is relative to the data root, or the absolute path of weights that no run of ours left; ``parent_sha256``
    is then what they hold, and names them. ``processes`` train.
    """

    stage: str
    snapshot_id: str
    parent: str | None
    settings: Settings
    processes: int = 1
    parent_sha256: str | None = None

    @property
    def run_id(self) -> str:
        """Stage and digest of all that determines the run's result: the same run has the same id, and is not repeated.

        How a step's videos are split over processes, batches and workers is left out, and how fast they are worked on:
        a run goes on as the same run on another number of GPUs. The videos of a step are in.
        """
        settings = asdict(self.settings)
        settings["loader"] = _without(settings["loader"], ("clips_per_batch", "workers", "prefetch_batches"))
        if isinstance(self.settings, TrainingSettings):
            settings["fit"] = _without(settings["fit"], ("accumulate", "checkpointing", "compile"))
            settings["videos_per_step"] = videos_per_step(self.settings, self.processes)
        if isinstance(self.settings, DistillSettings):
            # A student's weights are told by what they hold, wherever they lie.
            settings["students"] = [_without(student, ("weights",)) for student in settings["students"]]
        parent = self.parent_sha256 or self.parent
        return f"{self.stage}-{fingerprint(self.stage, self.snapshot_id, parent, settings)[:12]}"

    @property
    def checkpoint(self) -> str:
        """Where a training run leaves its last checkpoint, relative to the data root."""
        if not isinstance(self.settings, TrainingSettings):
            raise ValueError(f"{self.run_id} trains nothing: it leaves no checkpoint")
        return f"runs/{self.run_id}/checkpoints/step-{self.settings.fit.steps:06d}"

    @property
    def models(self) -> dict[str, str]:
        """The models that a training run leaves, by name ("" for one alone), and where, relative to the data root."""
        if isinstance(self.settings, DistillSettings):
            return {student.size: f"{self.checkpoint}/{student.size}" for student in self.settings.students}
        return {"": self.checkpoint}

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
        processes=content["processes"],
        parent_sha256=content["parent_sha256"],
        settings=_settings(content["stage"], content["settings"]),
    )
    return spec, Path(content["data_root"])


def _without(fields: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _settings(stage: str, fields: dict[str, Any]) -> Settings:
    if stage == "evaluation":
        return EvaluationSettings(**{**fields, "loader": EvaluationConfig(**fields["loader"])})
    if stage == "features":
        return FeatureSettings(WindowConfig(**fields["loader"]))
    optim = OptimConfig(**{**fields["fit"]["optim"], "betas": tuple(fields["fit"]["optim"]["betas"])})
    fit = FitConfig(**{**fields["fit"], "optim": optim})
    loader = {**fields["loader"], "unflipped": tuple(fields["loader"]["unflipped"])}
    parts = {**fields, "loader": LoaderConfig(**loader), "fit": fit}
    if stage == "distilled":
        return DistillSettings(**{**parts, "students": tuple(Student(**student) for student in fields["students"])})
    return PretrainSettings(**parts) if stage == "pretrained" else SupervisedSettings(**parts)
