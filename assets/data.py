"""Assets from annotation files to shards: thin shells around :mod:`warehouse.steps`, partitioned by source."""

from collections.abc import Iterator, Sequence

import dagster as dg

from assets import previews, stored_quality, thumbnails
from assets.markdown import columns
from assets.progress import progress_log
from assets.recording import QUALITY, SHEET, materialized, record, shown_by_source, shown_last
from warehouse import config as configuration
from warehouse import steps
from warehouse.config import Config, Source
from warehouse.probing import probe_sources
from warehouse.shards.executing import execute_plans
from warehouse.store import Store


def data_assets(config: Config) -> list[dg.AssetsDefinition]:
    """The assets `sources` to `shards` for a configuration; a source is a partition."""
    store = Store(config.data_root)
    partitions = dg.StaticPartitionsDefinition([source.name for source in config.sources])
    by_name = {source.name: source for source in config.sources}
    one_run = dg.BackfillPolicy.single_run()

    def chosen(context: dg.AssetExecutionContext) -> list[Source]:
        return [by_name[key] for key in context.partition_keys]

    def named(names: Sequence[str]) -> list[Source]:
        return [by_name[name] for name in names]

    @dg.asset(group_name="sources", kinds={"parquet"}, metadata=columns("sources"))
    def sources() -> dg.MaterializeResult:
        """The sources of `sources.toml`. Fails, naming file and key, if anything in it or a file it names is wrong."""
        configuration.load(config.path, check_files=True)
        return materialized(steps.write_sources(store, config), "sources", previews.of_sources(config))

    @dg.asset(
        group_name="sources", kinds={"parquet"}, partitions_def=partitions, backfill_policy=one_run, deps=[sources],
        metadata=columns("clips", "memberships", "files", "rejects"),
    )  # fmt: skip
    def clips(context: dg.AssetExecutionContext) -> None:
        """What a source's annotations list: `clips`, `memberships`, `files`, and `rejects` for rows that are wrong."""
        for source in chosen(context):
            listed = {source.name: steps.list_source(store, source)}
            record(context, "clips", listed, lambda name: previews.of_clips(store, name))

    @dg.multi_asset(
        name="probe",
        specs=[
            dg.AssetSpec(
                "media", deps=[clips], description=_MEDIA, group_name="curation", kinds={"parquet"},
                metadata=columns("media"),
            ),
            dg.AssetSpec(
                "frame_hashes", deps=["media"], description=_HASHES, group_name="curation", kinds={"parquet"},
                metadata=columns("frame_hashes"),
            ),
        ],
        partitions_def=partitions,
        backfill_policy=one_run,
    )  # fmt: skip
    def probe(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        results = probe_sources(store, config, chosen(context), progress_log(context, "probe"))
        sheets = shown_by_source(
            context, store, "media", SHEET, results, lambda names: thumbnails.of_media(store, config, named(names))
        )
        record(context, "media", results, lambda name: {**previews.of_media(store, name), **sheets[name]})
        record(context, "frame_hashes", results, lambda name: previews.of_frame_hashes(store, name))
        yield dg.MaterializeResult("media")
        yield dg.MaterializeResult("frame_hashes")

    @dg.asset(
        group_name="curation", kinds={"parquet", "duckdb"}, deps=["media", "frame_hashes"],
        metadata=columns("duplicate_edges", "duplicate_clusters"),
    )  # fmt: skip
    def duplicates(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        """Verified pairs of copies (by video id, bytes, packets and pictures) and their clusters, over all sources."""
        result = steps.search_duplicates(store, config)
        pairs = shown_last(context, store, "duplicates", "pairs") if result.skipped else None
        pairs = pairs or thumbnails.of_copies(store, config)
        shown = previews.of_duplicates(store) | ({"pairs": pairs} if pairs else {})
        return materialized(result, "duplicate_edges", shown)

    @dg.asset(
        group_name="curation", kinds={"parquet"}, deps=[duplicates], metadata=columns("decisions", "collections")
    )
    def decisions() -> dg.MaterializeResult:
        """Each clip in each collection and split: kept or dropped, with the reason. Evaluation clips are protected."""
        return materialized(steps.decide(store, config), "decisions", previews.of_decisions(store, config))

    @dg.asset(
        group_name="curation", kinds={"parquet"}, deps=[decisions],
        metadata=columns("labels", "classes", "native_classes"),
    )  # fmt: skip
    def labels() -> dg.MaterializeResult:
        """Each clip's class in each taxonomy, with the names of several sources merged."""
        return materialized(steps.label(store, config), "labels", previews.of_labels(store))

    @dg.asset(
        group_name="shards", kinds={"parquet"}, partitions_def=partitions, backfill_policy=one_run, deps=[decisions],
        metadata=columns("packing"),
    )  # fmt: skip
    def packing(context: dg.AssetExecutionContext) -> None:
        """The plan: which clip goes into which shard at which position. A clip once planned keeps its place."""
        for source in chosen(context):
            planned = {source.name: steps.plan_source(store, config, source)}
            record(context, "packing", planned, lambda name: previews.of_packing(store, name))

    @dg.asset(
        group_name="shards", kinds={"webdataset"}, partitions_def=partitions, backfill_policy=one_run, deps=[packing],
        metadata=columns("shards", "samples"),
    )  # fmt: skip
    def shards(context: dg.AssetExecutionContext) -> None:
        """WebDataset tar shards in the training rendition, and where each clip lies in them (`samples`)."""
        results = execute_plans(store, config, chosen(context), progress_log(context, "shards", in_turn=False))
        quality = shown_by_source(
            context, store, "shards", QUALITY, results,
            lambda names: stored_quality.of_shards(store, config, named(names)),
        )  # fmt: skip
        sheets = shown_by_source(
            context, store, "shards", SHEET, results, lambda names: thumbnails.of_shards(store, config, named(names))
        )
        record(
            context, "shards", results,
            lambda name: {**previews.of_shards(store, name), **quality[name], **sheets[name]},
        )  # fmt: skip

    return [sources, clips, probe, duplicates, decisions, labels, packing, shards]


_MEDIA = (
    "What probing found in each file: stream facts, SHA-256, and an error class where it is quarantined. "
    "Decodes each file once, for the frame hashes too; files that have not changed are not read again."
)
_HASHES = "Perceptual hashes of sampled frames (256-bit DCT): what the duplicate search compares."
