"""What a step leaves in Dagster's record of an asset: its figures, and what is shown of its tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from warehouse.step_result import StepResult
from warehouse.store import Store

SHEET = "contact sheet"
QUALITY = "quality and size"
Shown = Mapping[str, Any]


def materialized(result: StepResult, table: str, shown: Shown) -> dg.MaterializeResult:
    """The figures of a step that works on all sources at once; ``table`` is the one that the asset stands for."""
    return dg.MaterializeResult(metadata={**_figures(result, table), **shown})


def record(
    context: dg.AssetExecutionContext, asset: str, results: Mapping[str, StepResult], shown: Callable[[str], Shown]
) -> None:
    """Attach each source's figures, and what ``shown`` gives for it, to its partition; say the figures in the log."""
    for source, result in results.items():
        figures = _figures(result, asset)
        context.add_asset_metadata({**figures, **shown(source)}, asset_key=asset, partition_key=source)
        said = ", ".join(f"{name} {value}" for name, value in figures.items() if name not in _UNSAID)
        context.log.info(f"{asset} {source}: {'nothing to do' if result.skipped else said}")


def shown_by_source(
    context: dg.AssetExecutionContext,
    store: Store,
    asset: str,
    name: str,
    results: Mapping[str, StepResult],
    make: Callable[[Sequence[str]], Shown],
) -> dict[str, Shown]:
    """What each source has to show under a name (nothing, if it has no clips); ``make`` gives that of some sources.

    That of a source with nothing new is what was shown last: starting the processes that decode takes seconds.
    """
    last = {key: shown_last(context, store, asset, name, key) for key, result in results.items() if result.skipped}
    kept = {key: value for key, value in last.items() if value is not None}
    changed = [key for key in results if key not in kept]
    found = {**kept, **(make(changed) if changed else {})}
    return {key: {name: found[key]} if key in found else {} for key in results}


def shown_last(
    context: dg.AssetExecutionContext, store: Store, asset: str, name: str, source: str | None = None
) -> dg.MetadataValue | None:
    """What the last materialisation of an asset, or of its partition for a source, showed under a name.

    None where there is nothing, or a clip has been taken down since: it may be in the picture.
    """
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[source] if source else None)
    records = context.instance.fetch_materializations(wanted, limit=1).records
    if not records or records[0].asset_materialization is None:
        return None
    takedowns = store.read("takedowns", columns=["taken_at"])["taken_at"].to_pylist()
    if any(taken_at.timestamp() > records[0].timestamp for taken_at in takedowns):
        return None
    return records[0].asset_materialization.metadata.get(name)


_UNSAID = ("nothing to do", "dagster/row_count")


def _figures(result: StepResult, table: str) -> dict[str, int | float | str | bool]:
    rows = {f"{name} rows": count for name, count in result.rows.items()}
    return {"dagster/row_count": result.rows[table], **rows, **result.figures, "nothing to do": result.skipped}
