"""The step that executes packing plans: ``shards`` and ``samples`` of one or more sources, and the tars."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from warehouse.config import Config, Source
from warehouse.engine import Failure, map_unordered
from warehouse.media_file import media_file
from warehouse.shards.writer import Member, ShardPlan, write_shards
from warehouse.step_result import Progress, StepResult
from warehouse.store import Store, fingerprint

SECONDS_A_CLIP = 120.0


def execute_plans(
    store: Store, config: Config, sources: Sequence[Source], report: Callable[[Progress], None]
) -> dict[str, StepResult]:
    """Write the shards that ``packing`` plans for these sources and their tables. Finished shards stay as they are.

    Raises:
        RuntimeError: a shard's worker died or hung; names it. No shard that was finished is lost.
        RenditionError, ShardError: see :func:`warehouse.shards.writer.write_shards`.
    """
    plans = {source.name: shard_plans(store, source) for source in sources}
    every = [plan for planned in plans.values() for plan in planned]
    finished = {plan.shard: content for plan in every if (content := plan.finished()) is not None}
    todo = [plan for plan in every if plan.shard not in finished]
    for plan in todo:
        for leftover in Path(plan.folder).glob(f"{plan.shard}.*.tmp"):
            leftover.unlink()
    written = {plan.shard for plan in todo}
    # The largest first, so that the last worker is not left with a large one alone.
    todo.sort(key=lambda plan: (-len(plan.members), plan.shard))
    seconds = SECONDS_A_CLIP * max((len(plan.members) for plan in todo), default=1)
    units = [[plan] for plan in todo]
    for name in plans:
        report(_progress(name, plans[name], finished))
    for [plan], [result] in map_unordered(write_shards, units, workers=config.workers, timeout_s=seconds):
        if isinstance(result, Failure):
            raise RuntimeError(
                f"shard {plan.shard}: {result.error_class} while its clips were encoded; no clip was lost. "
                'Run again; if it repeats, use `rendition = "original"`.'
            )
        finished[plan.shard] = result
        report(_progress(plan.source, plans[plan.source], finished))
    return {name: _tabulate(store, name, planned, finished, written) for name, planned in plans.items()}


def _progress(source: str, plans: Sequence[ShardPlan], finished: Mapping[str, dict[str, Any]]) -> Progress:
    done = sum(len(plan.members) for plan in plans if plan.shard in finished)
    return Progress(source, done, sum(len(plan.members) for plan in plans))


def shard_plans(store: Store, source: Source) -> list[ShardPlan]:
    """The shards that ``packing`` plans for a source, in order, each with its members."""
    media = {row["clip_id"]: row for row in store.rows("media", source.name)}
    files = {row["clip_id"]: media_file(source.media_root, row) for row in store.rows("files", source.name)}
    members: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in store.rows("packing", source.name):
        members.setdefault((row["shard"], row["rendition"]), []).append(row)
    keys = ("sha256", "packet_hash", "codec", "width", "height", "rotation", "fps", "frames")
    return [
        ShardPlan(
            folder=str(store.shards / source.name),
            shard=shard,
            source=source.name,
            rendition=rendition,
            stride=source.stride,
            members=tuple(
                Member(row["clip_id"], files[row["clip_id"]], **{k: media[row["clip_id"]][k] for k in keys})
                for row in sorted(rows, key=lambda row: row["position"])
            ),
        )
        for (shard, rendition), rows in sorted(members.items())
    ]


def _tabulate(
    store: Store, source: str, plans: Sequence[ShardPlan], finished: dict[str, dict[str, Any]], written: set[str]
) -> StepResult:
    """Write a source's tables from its sidecars."""
    tars = [
        {
            "shard": plan.shard,
            "source": source,
            "rendition": plan.rendition,
            "path": str(plan.tar.relative_to(store.root)),
            "samples": len(plan.members),
            "bytes": finished[plan.shard]["bytes"],
            "sha256": finished[plan.shard]["sha256"],
        }
        for plan in plans
    ]
    samples = [sample for plan in plans for sample in finished[plan.shard]["samples"]]
    new = sum(plan.shard in written for plan in plans)
    inputs = fingerprint(tars)
    skipped = not new and store.is_current("shards", source, inputs)
    if not skipped:
        store.write("samples", samples, source, inputs)
        store.write("shards", tars, source, inputs)
    figures = {"bytes": sum(row["bytes"] for row in tars), "written": new}
    return StepResult({"shards": len(tars), "samples": len(samples)}, skipped, figures)
