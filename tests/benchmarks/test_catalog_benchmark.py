"""The catalog benchmark runs, and what it measures is right."""

from pathlib import Path

from benchmarks.catalog import COMPOSITION, alternatives, measure, table
from benchmarks.catalog_data import make_up
from warehouse.catalog.build import connect
from warehouse.store import Store


def test_the_catalog_is_measured_on_tables_that_hang_together(tmp_path: Path) -> None:
    make_up(tmp_path, 2000)
    figures = measure(tmp_path, 2000, queries=6) | alternatives(tmp_path, 2000)
    assert figures["failed_queries"] == 0 and figures["rebuilds_meanwhile"] > 0
    assert 0 < figures["lookup_open_ms"] < figures["lookup_ms"] and figures["sidecars_s"] > 0
    assert figures["composition_s_by_question"].keys() == COMPOSITION.keys()
    assert "2,000" in table([figures])
    store = Store(tmp_path / "data")
    with connect(store) as connection:
        for query in COMPOSITION.values():
            assert connection.execute(query).fetchall(), query  # each question has an answer
        [(listed, unaccounted)] = connection.execute("SELECT sum(listed), sum(unaccounted) FROM accounting").fetchall()
        assert (listed, unaccounted) == (2000, 0)
        assert connection.execute("SELECT count(*) FROM leaks").fetchall() == [(0,)]
        kept = connection.execute(
            "SELECT count(*) FROM decisions WHERE keep AND collection = 'unlabeled_hybrid'"
        ).fetchall()
    assert kept == [(figures["snapshot_clips"],)]
