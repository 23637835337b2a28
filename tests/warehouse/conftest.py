"""One corpus taken through every step up to the catalog, of which tests get copies."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from curated_houses import build_house, materialise
from small_shards import House, build_small_shards, copy_of

from warehouse.config import Config, load


@pytest.fixture(scope="session")
def pristine_house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be touched: copied by :func:`house`."""
    root = tmp_path_factory.mktemp("pristine") / "house"
    build_house(root)
    return root


@pytest.fixture(scope="session")
def house(pristine_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Config]:
    """Gives a house of one's own: the shipped configuration on 64 clips, all steps run."""

    def make() -> Config:
        root = tmp_path_factory.mktemp("houses") / "house"
        shutil.copytree(pristine_house, root)
        config = load(root / "sources.toml")
        materialise(config)  # paths of the copy: no video is looked at again
        return config

    return make


@pytest.fixture(scope="session")
def small_shards(pristine_house: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    """Not to be touched: copied by :func:`house_of_mine`."""
    return build_small_shards(pristine_house, tmp_path_factory.mktemp("small_shards"))


@pytest.fixture
def house_of_mine(small_shards: House, tmp_path: Path) -> House:
    """A house of a few clips a shard of one's own; its videos are those of the pristine one, which nobody writes to."""
    # Beside the original: paths in it are relative to the file.
    return copy_of(small_shards, tmp_path / "data", small_shards.config.path.with_name(f"{tmp_path.name}.toml"))
