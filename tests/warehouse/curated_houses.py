"""A whole configuration taken through every step of the warehouse, up to the catalog."""

import tomllib
from pathlib import Path

from warehouse import steps
from warehouse.catalog.build import build_catalog
from warehouse.config import Config, load
from warehouse.corpus.build import build
from warehouse.probing import probe_sources
from warehouse.shards.executing import execute_plans
from warehouse.step_result import Progress
from warehouse.store import Store

SHIPPED = Path(__file__).parents[2] / "sources.toml"
CLIPS = 64


def build_house(root: Path) -> None:
    """The shipped configuration below ``root``, on the embedded corpus at its smallest, all steps run."""
    build(root / "corpus", CLIPS)
    text = SHIPPED.read_text().replace(".reelhouse/demo/corpus", "corpus").replace(".reelhouse/demo", "data")
    (root / "sources.toml").write_text(text)
    assert tomllib.loads(text)["reelhouse"]["data_root"] == "data"
    materialise(load(root / "sources.toml"))


def quiet(progress: Progress) -> None:
    pass


def materialise(config: Config) -> None:
    """Every step up to the catalog."""
    store = Store(config.data_root)
    steps.write_sources(store, config)
    for source in config.sources:
        steps.list_source(store, source)
    probe_sources(store, config, config.sources, quiet)
    steps.search_duplicates(store, config)
    steps.decide(store, config)
    steps.label(store, config)
    for source in config.sources:
        steps.plan_source(store, config, source)
    execute_plans(store, config, config.sources, quiet)
    build_catalog(store)
