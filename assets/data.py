"""Assets from annotation files to shards: thin shells around :mod:`warehouse.steps`, partitioned by source."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg

from warehouse import config as configuration
from warehouse import steps
from warehouse.catalog.presence import presence
from warehouse.config import Config, Source
from warehouse.probing import probe_sources
from warehouse.shards.executing import execute_plans
from warehouse.step_result import Progress, StepResult
from warehouse.store import Store

PROGRESS_SECONDS = 5.0


def data_assets(config: Config) -> list[dg.AssetsDefinition]:
    """The assets `sources` to `shards` for a configuration; a source is a partition."""
    store = Store(config.data_root)
    partitions = dg.StaticPartitionsDefinition([source.name for source in config.sources])
    by_name = {source.name: source for source in config.sources}
    one_run = dg.BackfillPolicy.single_run()

    def chosen(context: dg.AssetExecutionContext) -> list[Source]:
        return [by_name[key] for key in context.partition_keys]

    @dg.asset(group_name="sources", kinds={"parquet"})
    def sources() -> dg.MaterializeResult:
        """The sources of `sources.toml`. Fails, naming file and key, if anything in it or a file it names is wrong."""
        configuration.load(config.path, check_files=True)
        return _result(steps.write_sources(store, config))

    @dg.asset(
        group_name="sources", kinds={"parquet"}, partitions_def=partitions, backfill_policy=one_run, deps=[sources]
    )
    def clips(context: dg.AssetExecutionContext) -> None:
        """What a source's annotations list: `clips`, `memberships`, `files`, and `rejects` for rows that are wrong."""
        for source in chosen(context):
            _record(context, "clips", source.name, steps.list_source(store, source))
            shown = dg.MetadataValue.md(presence_table(presence(store, source.name)))
            context.add_asset_metadata({"presence": shown}, asset_key="clips", partition_key=source.name)

    @dg.multi_asset(
        name="probe",
        specs=[
            dg.AssetSpec("media", deps=[clips], description=_MEDIA, group_name="curation", kinds={"parquet"}),
            dg.AssetSpec("frame_hashes", deps=["media"], description=_HASHES, group_name="curation", kinds={"parquet"}),
        ],
        partitions_def=partitions,
        backfill_policy=one_run,
    )
    def probe(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        results = probe_sources(store, config, chosen(context), progress_log(context, "probe"))
        for asset in ("media", "frame_hashes"):
            for name, result in results.items():
                _record(context, asset, name, result)
        yield dg.MaterializeResult("media")
        yield dg.MaterializeResult("frame_hashes")

    @dg.asset(group_name="curation", kinds={"parquet", "duckdb"}, deps=["media", "frame_hashes"])
    def duplicates() -> dg.MaterializeResult:
        """Verified pairs of copies (by video id, bytes, packets and pictures) and their clusters, over all sources."""
        return _result(steps.search_duplicates(store, config))

    @dg.asset(group_name="curation", kinds={"parquet"}, deps=[duplicates])
    def decisions() -> dg.MaterializeResult:
        """Each clip in each collection and split: kept or dropped, with the reason. Evaluation clips are protected."""
        return _result(steps.decide(store, config))

    @dg.asset(group_name="curation", kinds={"parquet"}, deps=[decisions])
    def labels() -> dg.MaterializeResult:
        """Each clip's class in each taxonomy, with the names of several sources merged."""
        return _result(steps.label(store, config))

    @dg.asset(
        group_name="shards", kinds={"parquet"}, partitions_def=partitions, backfill_policy=one_run, deps=[decisions]
    )
    def packing(context: dg.AssetExecutionContext) -> None:
        """The plan: which clip goes into which shard at which position. A clip once planned keeps its place."""
        for source in chosen(context):
            _record(context, "packing", source.name, steps.plan_source(store, config, source))

    @dg.asset(
        group_name="shards", kinds={"webdataset"}, partitions_def=partitions, backfill_policy=one_run, deps=[packing]
    )
    def shards(context: dg.AssetExecutionContext) -> None:
        """WebDataset tar shards in the training rendition, and where each clip lies in them (`samples`)."""
        results = execute_plans(store, config, chosen(context), progress_log(context, "shards", in_turn=False))
        for name, result in results.items():
            _record(context, "shards", name, result)

    return [sources, clips, probe, duplicates, decisions, labels, packing, shards]


_MEDIA = (
    "What probing found in each file: stream facts, SHA-256, and an error class where it is quarantined. "
    "Decodes each file once, for the frame hashes too; files that have not changed are not read again."
)
_HASHES = "Perceptual hashes of sampled frames (256-bit DCT): what the duplicate search compares."


def progress_log(
    context: dg.AssetExecutionContext, what: str, *, in_turn: bool = True
) -> Callable[[Progress], None]:
    """A callback that writes to the run log, every few seconds and at a source's end, how far each source is.

    ``in_turn``: sources are worked on one after the other, so work on one began at the last report of any; else on all
    from now on.
    """
    heard = began = time.monotonic()
    clocks: dict[str, _Clock] = {}

    def report(progress: Progress) -> None:
        nonlocal heard
        now, before = time.monotonic(), heard
        heard = now
        clock = clocks.setdefault(progress.source, _Clock(progress.done))
        if progress.done == clock.done_before:
            return
        if clock.started is None:
            clock.started = clock.logged = before if in_turn else began
        if now - clock.logged < PROGRESS_SECONDS and progress.done < progress.total:
            return
        clock.logged = now
        rate = (progress.done - clock.done_before) / max(now - clock.started, 1e-3)
        failed = f", {progress.failed} failed" if progress.failed else ""
        left = (progress.total - progress.done) / rate
        context.log.info(
            f"{what} {progress.source}: {progress.done}/{progress.total} clips{failed}, "
            f"{rate:.1f} clips/s, {left:.0f} s left"
        )

    return report


@dataclass
class _Clock:
    """When work on a source began (None: not yet) and was last told of, and what was done before."""

    done_before: int
    started: float | None = None
    logged: float = 0.0


def presence_table(rows: list[dict[str, Any]]) -> str:
    """Markdown of the view ``presence``: listed against present, by split."""
    columns = ("split", "listed", "present", "missing", "rejected", "share_present")
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    lines += [["" if row[name] is None else str(row[name]) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _facts(result: StepResult) -> Iterator[tuple[str, int | float | str | bool]]:
    yield from ((f"{table} rows", count) for table, count in result.rows.items())
    yield from result.figures.items()
    yield "nothing to do", result.skipped


def _result(result: StepResult) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata=dict(_facts(result)))


def _record(context: dg.AssetExecutionContext, asset: str, source: str, result: StepResult) -> None:
    """Attach a source's figures to its partition, and say them in the run log."""
    metadata = dict(_facts(result))
    context.add_asset_metadata(metadata=metadata, asset_key=asset, partition_key=source)
    said = ", ".join(f"{name} {value}" for name, value in metadata.items() if name != "nothing to do")
    context.log.info(f"{asset} {source}: {'nothing to do' if result.skipped else said}")
