"""Validation in the supervised stages: top-1 of the models in training, on clips that they do not train on.

At each checkpoint all ranks score one central view of every clip, each its share of them. Every rank makes as many
forward passes of as many rows, as sharded models need it: where a rank has no clips left it passes empty ones. So the
scores are those of ``model.evaluation.evaluate``, whatever the number of ranks; on a GPU but for the norms' gains and
shifts, which are rounded in training (``model.parallel.precision``).
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from assets.run_clips import Say, open_split
from assets.stages import RunSpec
from loaders.batch import Batch
from loaders.dali_choice import evaluation_loader
from loaders.evaluation_loader import EvaluationClipError
from loaders.failures import FailedClip
from loaders.views import EvaluationConfig, LoaderConfig
from model.classifier import Classifier
from model.objectives import mixed_precision
from model.pretrainer import Pretrainer
from warehouse.catalog.snapshots import Sample, snapshot_splits
from warehouse.store import Store

NAME = "val_top1"
"""What the score is called in metrics and TensorBoard; of a model with a name, that follows after a slash."""


class Validator:
    """What ``fit`` calls at each checkpoint: gives the mean of the models' top-1, in 0..1, and keeps each in
    ``scores``."""

    def __init__(
        self,
        models: Mapping[str, Classifier],
        samples: Sequence[Sample],
        config: EvaluationConfig,
        device: torch.device,
        say: Say,
    ) -> None:
        """``models`` are what the objective trains, ``samples`` all clips to score, the same on all ranks."""
        self._models, self._config, self._device, self._say = models, config, device, say
        rank, ranks = dist.get_rank(), dist.get_world_size()
        self._own = list(samples[rank::ranks])
        largest_share = -(-len(samples) // ranks)
        self._passes = -(-largest_share // config.clips_per_batch)
        self._clips = len(samples)
        self.scores: dict[str, float] = {}

    def __call__(self) -> float:
        """Score all models as they are now. NaN if none of the clips can be read."""
        before = {name: model.training for name, model in self._models.items()}
        failed: list[FailedClip] = []
        for model in self._models.values():
            model.eval()
        try:
            right_M, scored = self._count(failed)
        finally:
            for name, model in self._models.items():
                model.train(before[name])
        totals = torch.cat((right_M, torch.tensor([scored], dtype=torch.float64, device=self._device)))
        dist.all_reduce(totals)
        *rights, clips = totals.tolist()
        self._tell(failed, round(clips))
        self.scores = {
            name: right / clips if clips else float("nan") for name, right in zip(before, rights, strict=True)
        }
        return sum(self.scores.values()) / len(self.scores)

    @torch.no_grad()
    def _count(self, failed: list[FailedClip]) -> tuple[Tensor, int]:
        """How many of this rank's clips each model names right, float64 (models,), and of how many."""
        config, scored = self._config, 0
        right_M = torch.zeros(len(self._models), dtype=torch.float64, device=self._device)
        shape = (config.clips_per_batch, config.frames, config.size, config.size, 3)
        batches = self._batches(failed)
        for _ in range(self._passes):
            frames_BTHWC = torch.zeros(shape, dtype=torch.uint8, device=self._device)
            batch = next(batches, None)
            rows = 0 if batch is None else len(batch.clip_ids)
            if batch is not None:
                frames_BTHWC[:rows] = batch.frames.to(self._device)
                class_ids_R = batch.class_ids.to(self._device)
            for number, model in enumerate(self._models.values()):
                with mixed_precision(self._device):
                    logits_BC = model(frames_BTHWC)
                if rows:
                    right_M[number] += (logits_BC[:rows].argmax(1) == class_ids_R).sum()
            scored += rows
        for model in self._models.values():
            if isinstance(model, FSDPModule):
                model.reshard()  # FSDP2 leaves that to the backward pass, for what is outside of blocks
        return right_M, scored

    def _batches(self, failed: list[FailedClip]) -> Iterator[Batch]:
        """This rank's clips. One that fails goes to ``failed``, and is left out from then on."""
        place = 0
        while place < len(self._own):
            loader, _ = evaluation_loader(self._own[place:], self._config, self._device)
            try:
                with loader:
                    for batch in loader:
                        place += len(batch.clip_ids)
                        yield batch
            except EvaluationClipError as error:
                failed.append(error.clip)
                self._own = [sample for sample in self._own if sample.clip_id != error.clip.clip_id]

    def _tell(self, failed: list[FailedClip], scored: int) -> None:
        """Say on rank 0 which clips were left out on any rank, and how many by now."""
        everywhere: list[list[FailedClip]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(everywhere, failed)
        for clip in (clip for clips in everywhere for clip in clips):
            self._say(f"clip {clip.clip_id} is left out of validation ({clip.error_class}): {clip.error}")
        if any(everywhere):
            self._say(f"validation goes on with {scored} of {self._clips} clips")


def validator(
    spec: RunSpec,
    loader: LoaderConfig,
    models: Mapping[str, Pretrainer | Classifier],
    store: Store,
    device: torch.device,
    say: Say,
) -> Validator | None:
    """A validator for the classifiers that a run trains, on its snapshot's `val` split, else `test`.

    None if it trains none or has neither split. ``loader`` is the training loader's: a pass has as many rows as its
    batches, and clips are sampled as it samples them.
    """
    classifiers = {name: model for name, model in models.items() if isinstance(model, Classifier)}
    if not classifiers:
        return None
    splits = snapshot_splits(store, spec.snapshot_id)
    split = next((name for name in ("val", "test") if name in splits), None)
    samples: list[Sample] = []
    if split is not None:
        samples = [sample for sample in open_split(spec, store, split, say)[1] if sample.class_id is not None]
    if not samples:
        say("validation: none, as the snapshot has no val or test clips with a class")
        return None
    config = EvaluationConfig(
        clips_per_batch=loader.clips_per_batch * loader.views,
        frames=loader.frames,
        size=loader.size,
        sampling="segments" if loader.sampling == "segments" else "dense",
        workers=loader.workers,
        prefetch_batches=loader.prefetch_batches,
    )
    say(f"validation: top-1 of {len(samples)} {split} clips at each checkpoint, one view each")
    return Validator(classifiers, samples, config, device, say)
