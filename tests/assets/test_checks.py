"""Each blocking check passes on what a whole run left, and fails once that is tampered with."""

import io
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from whole_runs import Whole

from assets import checks
from assets.checks import blocking_checks
from assets.collections import collection_assets
from warehouse.catalog.build import build_catalog
from warehouse.catalog.snapshots import current_snapshot
from warehouse.config import Config
from warehouse.store import Store

ALL = (checks.ALL_SOURCES_PRESENT, checks.TARS_EQUAL_ROWS, checks.EVERY_CLIP_ACCOUNTED_FOR, checks.NO_LEAKS)


@pytest.fixture
def house(undisturbed: Whole, tmp_path: Path) -> tuple[Store, Config]:
    """A copy of the tables, shards and catalog of a whole run."""
    root = tmp_path / "data"
    shutil.copytree(undisturbed.store.root, root, ignore=shutil.ignore_patterns("runs"))
    return Store(root), replace(undisturbed.config, data_root=root)


def outcome(config: Config, name: str) -> dg.AssetCheckResult:
    [check] = [check for check in blocking_checks(config) if name in {key.name for key in check.check_keys}]
    return check()


def failed(config: Config) -> set[str]:
    return {name for name in ALL if not outcome(config, name).passed}


def test_checks_block_and_pass(house: tuple[Store, Config]) -> None:
    _, config = house
    assert all(spec.blocking for check in blocking_checks(config) for spec in check.check_specs)
    assert failed(config) == set()


@pytest.mark.parametrize("table", ["clips", "media", "frame_hashes"])
def test_missing_part(house: tuple[Store, Config], table: str) -> None:
    store, config = house
    store.path(table, "kinetics700").unlink()
    found = outcome(config, checks.ALL_SOURCES_PRESENT)
    assert not found.passed
    assert found.metadata["missing"].value == [f"{table}/kinetics700"]


def rewrite(tar: Path, edit: Callable[[tarfile.TarInfo, bytes], bytes | None]) -> None:
    """Write a tar again with each member's bytes edited; None leaves it out."""
    with tarfile.open(tar) as old:
        members = [(entry, old.extractfile(entry).read()) for entry in old]
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as new:
        for entry, data in members:
            edited = edit(entry, data)
            if edited is not None:
                entry.size = len(edited)
                new.addfile(entry, io.BytesIO(edited))


def without_last_video(tar: Path) -> None:
    with tarfile.open(tar) as old:
        last = [name for name in old.getnames() if name.endswith(".mp4")][-1]
    rewrite(tar, lambda entry, data: None if entry.name == last else data)


def with_longer_videos(tar: Path) -> None:
    rewrite(tar, lambda entry, data: data + bytes(1) if entry.name.endswith(".mp4") else data)


def with_members_renamed(tar: Path) -> None:
    def rename(entry: tarfile.TarInfo, data: bytes) -> bytes:
        entry.name = entry.name[::-1] if entry.name.endswith(".json") else f"{'0' * 32}.mp4"
        return data

    rewrite(tar, rename)


@pytest.mark.parametrize("tamper", [without_last_video, with_longer_videos, with_members_renamed])
def test_tar_that_differs_from_its_rows(house: tuple[Store, Config], tamper: Callable[[Path], None]) -> None:
    store, config = house
    row = store.rows("shards", "kinetics600")[0]
    tamper(store.root / row["path"])
    found = outcome(config, checks.TARS_EQUAL_ROWS)
    assert not found.passed
    assert found.metadata["wrong"].value == [f"{row['path']}: members differ from `samples`"]


def test_planned_clip_that_is_in_no_tar(house: tuple[Store, Config]) -> None:
    store, config = house
    *rest, last = store.rows("samples", "kinetics600")
    store.write("samples", rest, "kinetics600")
    assert failed(config) == {checks.TARS_EQUAL_ROWS}
    assert last["shard"] in str(outcome(config, checks.TARS_EQUAL_ROWS).metadata["wrong"].value)


def test_missing_decision(house: tuple[Store, Config]) -> None:
    store, config = house
    rows = store.rows("decisions")
    rows.remove(next(row for row in rows if row["collection"] == "labeled_hybrid" and not row["keep"]))
    store.write("decisions", rows)
    build_catalog(store)
    assert failed(config) == {checks.EVERY_CLIP_ACCOUNTED_FOR}
    wrong = outcome(config, checks.EVERY_CLIP_ACCOUNTED_FOR).metadata["collections with missing or double decisions"]
    assert wrong.value == ["labeled_hybrid"]


def test_listed_clip_that_was_never_probed(house: tuple[Store, Config]) -> None:
    store, config = house
    store.write("media", store.rows("media", "selfcollected")[1:], "selfcollected")
    build_catalog(store)
    assert failed(config) == {checks.EVERY_CLIP_ACCOUNTED_FOR}
    assert outcome(config, checks.EVERY_CLIP_ACCOUNTED_FOR).metadata["unaccounted"].value == 1


@pytest.mark.parametrize("reason", ["duplicate_of_protected", "protected_split"])
def test_leak_stops_what_is_downstream(house: tuple[Store, Config], reason: str) -> None:
    store, config = house
    rows = store.rows("decisions")
    row = next(row for row in rows if row["reason"] == reason and row["collection"] == "unlabeled_hybrid")
    row["keep"] = True
    store.write("decisions", rows)
    before = current_snapshot(store, "unlabeled_hybrid")
    of_catalog = [check for check in blocking_checks(config) if check.check_key.asset_key == dg.AssetKey("catalog")]
    ran = dg.materialize([*collection_assets(config), *of_catalog], raise_on_error=False)
    evaluated = {e.check_name: e.passed for e in ran.get_asset_check_evaluations()}
    assert evaluated == {checks.NO_LEAKS: False, checks.EVERY_CLIP_ACCOUNTED_FOR: True}
    assert not ran.success
    assert ran.asset_materializations_for_node("unlabeled_hybrid") == []
    assert current_snapshot(store, "unlabeled_hybrid") == before
