"""What a run would take, before anything runs: read-only, from the sources, the tables and a trial of a few clips."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from assets.stages import Recipe
from pipelines.source_plan import SourcePlan, plan_sources
from pipelines.stage_plan import StagePlan, plan_stage
from warehouse.config import Config
from warehouse.sources import read_source
from warehouse.store import Store


@dataclass(frozen=True)
class Plan:
    """The whole run."""

    sources: tuple[SourcePlan, ...]
    stages: tuple[StagePlan, ...]
    device: str
    free_bytes: int

    @property
    def seconds(self) -> float:
        """Expected wall time of all that was measured."""
        parts = [s.probe_s for s in self.sources] + [s.store_s for s in self.sources]
        return sum(part or 0.0 for part in [*parts, *(stage.seconds for stage in self.stages)])

    @property
    def complete(self) -> bool:
        """Whether every part that is to be done could be measured."""
        data = all((s.probe_s is not None or not s.to_probe) and (s.store_s is not None or not s.to_store)
                   for s in self.sources)  # fmt: skip
        return data and all(stage.seconds is not None for stage in self.stages)

    @property
    def bytes_to_write(self) -> int:
        """Expected size of all that is missing."""
        return sum(s.bytes_to_write for s in self.sources) + sum(s.bytes_to_write for s in self.stages)


def make_plan(config: Config, recipe: Recipe) -> Plan:
    """List the sources, try some clips of each that has work left, and try each stage that has not finished.

    Raises:
        SourceError: a source cannot be read at all.
    """
    store = Store(config.data_root)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = list(recipe.stages)
    with tqdm(total=len(config.sources) + 1 + len(names), desc="plan", leave=False, delay=3) as bar:
        listings = {}
        for source in config.sources:
            listings[source.name] = read_source(source)
            bar.update()
        sources = plan_sources(store, config, listings)
        bar.update()
        data_done = not any(source.to_probe or source.to_store for source in sources)
        stages = []
        for name in names:
            stages.append(plan_stage(store, config, recipe, name, listings, data_done, device))
            bar.update()
    return Plan(sources, tuple(stages), device.type, shutil.disk_usage(_existing(config.data_root)).free)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return path if path.exists() else _existing(path.parent)
