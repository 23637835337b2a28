"""A code location for the tests: the real definitions with stages of a few steps and several shards a source.

Run as a person runs the real one: ``dagster job execute -f tests/pipelines/small_job.py -j full_run``; the job
``data_run`` ends with the snapshots.
"""

import dagster as dg

from assets.derived_stages import DistillSettings, FeatureSettings, Student
from assets.stages import EvaluationSettings, PretrainSettings, Recipe, SupervisedSettings
from loaders.views import EvaluationConfig, LoaderConfig
from loaders.windows import WindowConfig
from model.optim import OptimConfig
from model.training import FitConfig
from pipelines.definitions import build_definitions
from warehouse.config import load
from warehouse.shards import packing

FRAMES, IMAGE = 8, 32
PRETRAIN_STEPS, CHECKPOINT_EVERY = 48, 6


def _fit(steps: int) -> FitConfig:
    return FitConfig(steps, CHECKPOINT_EVERY, seed=0, optim=OptimConfig(peak_rate=1e-3, warmup_steps=2))


_LOADER = LoaderConfig(clips_per_batch=8, frames=FRAMES, size=IMAGE)
RECIPE = Recipe(
    name="test",
    pretrained=PretrainSettings("tiny", _LOADER, _fit(PRETRAIN_STEPS)),
    post_pretrained=SupervisedSettings(_LOADER, _fit(6)),
    finetuned=SupervisedSettings(_LOADER, _fit(6)),
    evaluation=EvaluationSettings(EvaluationConfig(clips_per_batch=8, frames=FRAMES, size=IMAGE, temporal_views=2)),
    distilled=DistillSettings((Student("micro"),), _LOADER, _fit(6)),
    features=FeatureSettings(WindowConfig(clips_per_batch=8, frames=FRAMES, size=IMAGE)),
    processes=1,
)

packing.SHARD_BYTES = 60_000  # a few clips: a run can be killed between two shards of a source


def _with_data_run(whole: dg.Definitions) -> dg.Definitions:
    """The job that ends with the snapshots beside the whole one, over all sources as that one is."""
    selection = dg.AssetSelection.groups("collections").upstream()
    job = dg.define_asset_job("data_run", selection, tags=whole.resolve_job_def("full_run").tags)
    return dg.Definitions.merge(whole, dg.Definitions(jobs=[job]))


defs = _with_data_run(build_definitions(load(check_files=False), RECIPE))
