"""A clip that was taken down: no snapshot about to be trained on may give it out, and no page shows it."""

from pathlib import Path

import dagster as dg
import pytest
from test_report import TOML, write_clips, write_runs
from test_report_leaks import LEVELS, write_video

from assets.checks import blocking_checks
from assets.pictures import clips_shown, name_shown
from assets.report_leaks import evaluation_sets
from assets.report_page import build_report
from assets.run_clips import open_split
from assets.takedown_checks import NO_CLIP_TAKEN_DOWN
from assets.training import run_specs
from pipelines.presets import smoke
from warehouse import steps
from warehouse.catalog import snapshots
from warehouse.catalog.build import build_catalog, connect
from warehouse.catalog.snapshots import take_snapshot
from warehouse.config import Config, load
from warehouse.store import Store
from warehouse.takedown.takedowns import take_down

COLLECTION = "everything"


@pytest.fixture
def house(tmp_path: Path) -> tuple[Store, Config, list[str]]:
    """A catalog with a snapshot of each collection; and the clips of one of these."""
    (tmp_path / "sources.toml").write_text(TOML)
    config = load(tmp_path / "sources.toml", check_files=False)
    store = Store(config.data_root)
    steps.write_sources(store, config)
    write_clips(store)
    build_catalog(store)
    taken = {c.name: take_snapshot(store, config, c)["snapshot_id"] for c in config.collections}
    build_catalog(store)
    return store, config, store.read("snapshot_clips", taken[COLLECTION])["clip_id"].to_pylist()


def outcome(config: Config) -> dg.AssetCheckResult:
    [check] = [
        check
        for check in blocking_checks(config)
        if (spec := next(iter(check.check_specs))).name == NO_CLIP_TAKEN_DOWN and spec.asset_key.path == [COLLECTION]
    ]
    assert next(iter(check.check_specs)).blocking
    found = check()
    assert isinstance(found, dg.AssetCheckResult)
    return found


def test_the_check_passes_for_tombstones_alone(
    house: tuple[Store, Config, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, config, clips = house
    assert outcome(config).passed and outcome(config).metadata["tombstones"].value == 0
    take_down(store, clips[:1], "asked", "me")
    found = outcome(config)  # left out already, and the catalog does not say so yet
    assert not found.passed and clips[0] in str(found.metadata)
    build_catalog(store)
    assert outcome(config).passed and outcome(config).metadata["tombstones"].value == 1
    # A defect: what opens snapshots hands it out.
    monkeypatch.setattr(snapshots, "taken_down", lambda store: frozenset())
    found = outcome(config)
    assert not found.passed and found.metadata["read all the same"].value == clips[:1]


def test_training_leaves_the_clip_out_and_says_so(house: tuple[Store, Config, list[str]]) -> None:
    store, config, clips = house
    spec, said = run_specs(store, config, smoke())["pretrained"], []
    places, samples = open_split(spec, store, "train", said.append)
    assert len(places) == len(samples) == len(clips) and not said
    take_down(store, clips[2:4], "asked", "me")
    places, samples = open_split(spec, store, "train", said.append)
    assert [place.clip_id for place in places] == clips
    assert [sample.clip_id for sample in samples] == [*clips[:2], *clips[4:]]
    named = ", ".join(clips[2:4])
    assert said == [f"2 of {len(clips)} train clips have been taken down since and are left out: {named}"]


def test_the_pages_name_the_clips_that_they_show_and_show_none_that_was_taken_down(
    house: tuple[Store, Config, list[str]],
) -> None:
    store, config, clips = house
    # Clips 0 (val) and 5 are a verified pair (and are a leak that was found); their files hold frames now.
    evaluated, training = f"{0:032x}", f"{5:032x}"
    for source in ("films", "phone"):
        for row in store.rows("files", source):
            if row["clip_id"] in (evaluated, training):
                write_video(Path(next(s.media_root for s in config.sources if s.name == source)) / row["path"],
                            list(LEVELS))  # fmt: skip
    write_runs(store, config)
    [run] = [part for part in store.parts("runs") if part.startswith("pretrained")]
    assert name_shown(store.runs / run, clips[:2]) and name_shown(store.runs / run, clips[1:3])
    assert clips_shown(store.runs / run) == clips[:3]
    build_catalog(store)
    report = build_report(store, config, smoke())
    assert all(clip in report.read_text() for clip in clips[:3])
    leaks = report.with_name("leaks.html").read_text()
    assert f'data-clip="{evaluated}"' in leaks and f'data-clip="{training}"' in leaks

    take_down(store, [training], "asked", "me")
    build_catalog(store)
    with connect(store) as connection:
        assert evaluation_sets(connection, 1) == []
    assert training not in build_report(store, config, smoke()).with_name("leaks.html").read_text()
