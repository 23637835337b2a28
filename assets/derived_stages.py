"""What is made of a trained classifier, and what those stages are told: smaller students, and features of clips."""

from dataclasses import dataclass
from typing import Literal

from assets.schedule import Epochs
from loaders.views import LoaderConfig
from loaders.windows import WindowConfig
from model.training import FitConfig

Teacher = Literal["finetuned", "post_pretrained"]


@dataclass(frozen=True)
class Student:
    """A student of size ``size`` (a name in ``model.sizes``, which is also its own).

    ``weights`` is the absolute path of a file or checkpoint of ours that it starts from, and ``sha256`` what that
    holds; without one it starts fresh.
    """

    size: str
    weights: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class DistillSettings:
    """Distillation of the students from the classifier that the stage ``teacher`` left, on that stage's collection.

    The paper's teacher is g after K710, and for Something-Something after its own fine-tuning. ``epochs`` as in
    ``assets.stages``.
    """

    students: tuple[Student, ...]
    loader: LoaderConfig
    fit: FitConfig
    teacher: Teacher = "finetuned"
    temperature: float = 3.0
    drop_path: float = 0.1
    epochs: Epochs | None = None

    def __post_init__(self) -> None:
        sizes = [student.size for student in self.students]
        if not sizes or len(set(sizes)) < len(sizes):
            raise ValueError(f"a distillation has one student or more, each of another size, not {sizes}")


@dataclass(frozen=True)
class FeatureSettings:
    """Features of the windows of all clips of a collection, by the fine-tuned model."""

    loader: WindowConfig
