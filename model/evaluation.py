"""Scores of a classifier over clips, each seen in several views."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.classifier import Classifier
from model.objectives import mixed_precision


class ViewBatch(Protocol):
    """A batch whose rows are views. Views of a clip follow one another, also across batches."""

    @property
    def frames(self) -> Tensor:
        """uint8 (B, T, H, W, 3), RGB."""
        ...

    @property
    def class_ids(self) -> Tensor:
        """int64 (B,)."""
        ...

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """One for each row."""
        ...


@dataclass(frozen=True)
class Prediction:
    """A clip's probabilities, averaged over its views."""

    clip_id: str
    class_id: int
    views: int
    probabilities: NDArray[np.float32]
    """(classes,)"""

    @property
    def predicted(self) -> int:
        """The likeliest class."""
        return int(self.probabilities.argmax())

    def within(self, best: int) -> bool:
        """Whether the true class is among the ``best`` likeliest."""
        return self.class_id in np.argsort(-self.probabilities, kind="stable")[:best]


@dataclass(frozen=True)
class Evaluation:
    """Scores over all clips, shares in 0..1.

    ``chance_uniform`` is guessing among all classes, ``chance_largest`` always naming the class with most clips.
    ``per_class`` is top-1 by class, NaN for a class without clips; ``confusion[true, predicted]`` counts clips.
    With five classes or fewer ``top5`` is 1.
    """

    class_names: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    top1: float
    top5: float
    chance_uniform: float
    chance_largest: float
    per_class: NDArray[np.float64]
    confusion: NDArray[np.int64]


class EvaluationError(Exception):
    """The views are not those of the clips to score, each once."""


@torch.no_grad()
def evaluate(
    model: Classifier, batches: Iterable[ViewBatch], expected: Collection[str], device: torch.device
) -> Evaluation:
    """Score ``model`` (moved to ``device``) on exactly the clips ``expected``, as :func:`score` does.

    Softmax is averaged over a clip's views.
    """
    model.to(device).eval()
    return score(tuple(predict(model, batches, device)), expected, model.config.class_names)


def score(predictions: Sequence[Prediction], expected: Collection[str], class_names: Sequence[str]) -> Evaluation:
    """The scores of predictions of exactly the clips ``expected``.

    Raises EvaluationError if a clip is missing, comes twice, is not expected, has no class of the model's or another
    number of views than the others.
    """
    classes = len(class_names)
    _check(predictions, expected, classes)
    confusion = np.zeros((classes, classes), dtype=np.int64)
    for prediction in predictions:
        confusion[prediction.class_id, prediction.predicted] += 1
    of_class = confusion.sum(1)
    with np.errstate(invalid="ignore"):
        per_class = confusion.diagonal() / of_class
    return Evaluation(
        class_names=tuple(class_names),
        predictions=tuple(predictions),
        top1=float(confusion.trace() / len(predictions)),
        top5=float(np.mean([prediction.within(5) for prediction in predictions])),
        chance_uniform=1 / classes,
        chance_largest=float(of_class.max() / len(predictions)),
        per_class=per_class,
        confusion=confusion,
    )


@torch.no_grad()
def predict(model: Classifier, batches: Iterable[ViewBatch], device: torch.device) -> Iterator[Prediction]:
    """A prediction for each run of rows with the same clip id, of a model that is on ``device`` and set to ``eval``."""
    current: tuple[str, int] | None = None
    views: list[NDArray[np.float32]] = []
    for batch in batches:
        with mixed_precision(device):
            logits_BC = model(batch.frames.to(device, non_blocking=True))
        probabilities_BC = logits_BC.float().softmax(-1).cpu().numpy()
        for clip_id, class_id, probabilities in zip(
            batch.clip_ids, batch.class_ids.tolist(), probabilities_BC, strict=True
        ):
            if current != (clip_id, class_id):
                if current:
                    yield _prediction(current, views)
                current, views = (clip_id, class_id), []
            views.append(probabilities)
    if current:
        yield _prediction(current, views)


def _prediction(clip: tuple[str, int], views: list[NDArray[np.float32]]) -> Prediction:
    return Prediction(*clip, views=len(views), probabilities=np.mean(views, axis=0))


def _check(predictions: Sequence[Prediction], expected: Collection[str], classes: int) -> None:
    """Raise EvaluationError unless the predictions are of the expected clips, each once and in as many views."""
    scored = [prediction.clip_id for prediction in predictions]
    seen = set(scored)
    twice = {clip for clip, times in Counter(scored).items() if times > 1}
    problems = {
        "not scored": set(expected) - seen,
        "not expected": seen - set(expected),
        "scored more than once": twice,
        "without a class of the model": {p.clip_id for p in predictions if not 0 <= p.class_id < classes},
        "in another number of views": {p.clip_id for p in predictions if p.views != predictions[0].views},
    }
    found = [f"{len(clips)} {what} ({', '.join(sorted(clips)[:3])}…)" for what, clips in problems.items() if clips]
    if not predictions:
        found = ["there are no clips to score"]
    if found:
        raise EvaluationError(f"evaluation of {len(set(expected))} clips: {'; '.join(found)}")
