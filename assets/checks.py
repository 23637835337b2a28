"""Blocking checks: what must hold before anything downstream may run."""

import tarfile

import dagster as dg
import duckdb

from assets.markdown import table
from assets.takedown_checks import takedown_checks
from warehouse import steps
from warehouse.catalog.build import connect
from warehouse.config import Config
from warehouse.store import Store

ALL_SOURCES_PRESENT = "all_sources_present"
EVERY_CLIP_ACCOUNTED_FOR = "every_clip_accounted_for"
NO_LEAKS = "no_leaks"
TARS_EQUAL_ROWS = "tars_equal_rows"


def blocking_checks(config: Config) -> list[dg.AssetChecksDefinition]:
    """The checks for a configuration."""
    store = Store(config.data_root)

    @dg.asset_check(asset="frame_hashes", name=ALL_SOURCES_PRESENT, blocking=True)
    def all_sources_present() -> dg.AssetCheckResult:
        """Every source of `sources.toml` has been listed and probed: the search for copies needs them all."""
        missing = steps.missing_parts(store, config, "clips", "media", "frame_hashes")
        return dg.AssetCheckResult(passed=not missing, metadata={"missing": missing})

    @dg.asset_check(asset="shards", name=TARS_EQUAL_ROWS, blocking=True)
    def tars_equal_rows() -> dg.AssetCheckResult:
        """The clips in every tar, by name, place and size, are those that `samples` and `packing` say."""
        wrong = [problem for source in config.sources for problem in _tar_problems(store, source.name)]
        return dg.AssetCheckResult(passed=not wrong, metadata={"wrong": wrong[:20], "count": len(wrong)})

    @dg.asset_check(asset="catalog", name=EVERY_CLIP_ACCOUNTED_FOR, blocking=True)
    def every_clip_accounted_for() -> dg.AssetCheckResult:
        """Each listed clip is kept, dropped, missing or quarantined, with one decision for each place it could be."""
        with connect(store) as connection:
            totals = connection.execute(
                "SELECT sum(listed), sum(missing), sum(quarantined), sum(kept), sum(dropped), sum(unaccounted) "
                "FROM accounting"
            ).fetchone()
            listed, missing, quarantined, kept, dropped, unaccounted = (int(n or 0) for n in totals or (0,) * 6)
            decided = {
                row[0]: row[1:]
                for row in connection.execute(
                    "SELECT collection, count(*), count(DISTINCT (clip_id, split)) FROM decisions GROUP BY collection"
                ).fetchall()
            }
            expected = {c.name: _places(connection, config, c.name) for c in config.collections}
        adds_up = listed == missing + quarantined + kept + dropped and unaccounted == 0
        wrong = [name for name, places in expected.items() if decided.get(name, (0, 0)) != (places, places)]
        return dg.AssetCheckResult(
            passed=adds_up and not wrong,
            metadata={
                "listed": listed,
                "kept": kept,
                "dropped": dropped,
                "missing": missing,
                "quarantined": quarantined,
                "unaccounted": unaccounted,
                "collections with missing or double decisions": wrong,
            },
        )

    @dg.asset_check(asset="catalog", name=NO_LEAKS, blocking=True)
    def no_leaks() -> dg.AssetCheckResult:
        """No training clip of any collection, rules or query, repeats a validation or test clip, by id or content."""
        with connect(store) as connection:
            left = connection.execute("SELECT count(*) FROM leaks").fetchone()
            # Those of sources.toml are taken anew after this check, and each is refused if it leaks.
            made = [c.name for c in config.collections if c.sql is not None]
            selected = connection.execute(
                "SELECT collection, count(*) FROM snapshot_leaks WHERE collection NOT IN (SELECT unnest(?)) "
                "GROUP BY collection ORDER BY collection", [made]
            ).fetchall()
            outcomes = connection.execute(
                "SELECT collection, protected_source || ' ' || protected_split, outcome, count(DISTINCT clip_id) "
                "FROM leaks_found GROUP BY ALL ORDER BY ALL"
            ).fetchall()
            rules = connection.execute("SELECT * FROM leakage_rules").fetchall()
        leaks = int(left[0]) if left else 0
        return dg.AssetCheckResult(
            passed=leaks == 0 and not selected,
            metadata={
                "leaks": leaks,
                "leaks of queries (make them anew with `reelhouse collection create`)": table(
                    ("collection", "leaks"), selected
                ),
                "leaks found": table(("collection", "evaluation set", "outcome", "training clips"), outcomes),
                "videos left by either rule": table(
                    ("collection", "rule", "in force", "train", "val", "test"), rules
                ),
            },
        )

    return [all_sources_present, tars_equal_rows, every_clip_accounted_for, no_leaks, *takedown_checks(config)]


def _places(connection: duckdb.DuckDBPyConnection, config: Config, collection: str) -> int:
    """How many (clip, split) pairs the collection's sources list."""
    feeding = [s.name for s in config.sources if collection in s.collections]
    row = connection.execute(
        "SELECT count(DISTINCT (clip_id, split)) FROM memberships WHERE source IN (SELECT unnest(?))", [feeding]
    ).fetchone()
    return int(row[0]) if row else 0


def _tar_problems(store: Store, source: str) -> list[str]:
    """Where a source's tars differ from its rows."""
    problems = []
    planned = {(row["clip_id"], row["shard"]) for row in store.rows("packing", source)}
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    for row in store.rows("samples", source):
        samples.setdefault(row["shard"], {})[row["clip_id"]] = (row["offset"], row["size"])
    written = {(clip, shard) for shard, clips in samples.items() for clip in clips}
    if planned != written:
        problems.append(f"{source}: {len(planned)} clips planned, {len(written)} written")
    for row in store.rows("shards", source):
        with tarfile.open(store.root / row["path"]) as tar:
            found = {
                entry.name.partition(".")[0]: (entry.offset_data, entry.size)
                for entry in tar
                if not entry.name.endswith(".json")
            }
        if found != samples.get(row["shard"]):
            problems.append(f"{row['path']}: members differ from `samples`")
    return problems
