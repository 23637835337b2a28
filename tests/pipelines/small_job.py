"""A code location for the tests: the real definitions with stages of a few steps and several shards a source.

Run as a person runs the real one: ``dagster job execute -f tests/pipelines/small_job.py -j full_run``.
"""

from assets.stages import EvaluationSettings, PretrainSettings, Recipe, SupervisedSettings
from loaders.views import EvaluationConfig, LoaderConfig
from model.optim import OptimConfig
from model.training import FitConfig
from pipelines.definitions import build_definitions
from warehouse.config import load
from warehouse.shards import packing

FRAMES, IMAGE = 8, 32
PRETRAIN_STEPS, CHECKPOINT_EVERY = 48, 6


def _fit(steps: int) -> FitConfig:
    return FitConfig(steps, CHECKPOINT_EVERY, seed=0, optim=OptimConfig(peak_rate=1e-3, warmup_steps=2))


_SUPERVISED = SupervisedSettings(LoaderConfig(clips_per_batch=8, frames=FRAMES, size=IMAGE), _fit(6))
RECIPE = Recipe(
    name="test",
    pretrained=PretrainSettings(
        "tiny", LoaderConfig(clips_per_batch=8, frames=FRAMES, size=IMAGE), _fit(PRETRAIN_STEPS)
    ),
    post_pretrained=_SUPERVISED,
    finetuned=_SUPERVISED,
    evaluation=EvaluationSettings(EvaluationConfig(clips_per_batch=8, frames=FRAMES, size=IMAGE, temporal_views=2)),
    processes=1,
)

packing.SHARD_BYTES = 60_000
defs = build_definitions(load(check_files=False), RECIPE)
