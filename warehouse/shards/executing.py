"""The step that executes packing plans: ``shards`` and ``samples`` of one or more sources, and the tars."""

from collections.abc import Callable, Iterator, Sequence

from warehouse.config import Config, Source
from warehouse.engine import Failure, map_unordered
from warehouse.shards.changing import changing_shards
from warehouse.shards.shard_plan import ShardPlan, SourceShards
from warehouse.shards.sidecar import Sidecar
from warehouse.shards.tables import tabulate
from warehouse.shards.writer import write_shards
from warehouse.step_result import Progress, StepResult
from warehouse.store import Store

SECONDS_A_CLIP = 120.0


def execute_plans(
    store: Store, config: Config, sources: Sequence[Source], report: Callable[[Progress], None]
) -> dict[str, StepResult]:
    """Write the shards that ``packing`` plans for these sources and their tables. Finished shards stay as they are.

    While another job plans or writes shards, or somebody compacts them, it waits (and logs for whom).

    Raises:
        RuntimeError: a shard's worker died or hung; names it. No shard that was finished is lost.
        RenditionError, ShardError: see :func:`warehouse.shards.writer.write_shards`.
    """
    with changing_shards(store, "writes shards"):
        return _execute(store, config, sources, report)


def _execute(
    store: Store, config: Config, sources: Sequence[Source], report: Callable[[Progress], None]
) -> dict[str, StepResult]:
    states = {source.name: _SourceState(SourceShards(store, source)) for source in sources}
    todo = [(name, number) for name, state in states.items() for number in state.todo]
    # The largest first, so that the last worker is not left with a large one alone.
    todo.sort(key=lambda unit: -states[unit[0]].shards.sizes[unit[1]])
    seconds = SECONDS_A_CLIP * max((states[name].shards.sizes[number] for name, number in todo), default=1)
    for name, state in states.items():
        report(state.progress(name))
    units = _units(states, todo)
    for [plan], [result] in map_unordered(write_shards, units, workers=config.workers, timeout_s=seconds):
        if isinstance(result, Failure):
            raise RuntimeError(
                f"shard {plan.shard}: {result.error_class} while its clips were encoded; no clip was lost. "
                'Run again; if it repeats, use `rendition = "original"`.'
            )
        state = states[plan.source]
        state.add(result)
        report(state.progress(plan.source))
    return {name: _finish(store, name, state) for name, state in states.items()}


class _SourceState:
    """How far a source is. Plans are made when they are needed: all members of a large source are gigabytes."""

    def __init__(self, shards: SourceShards) -> None:
        self.shards = shards
        self.todo: list[int] = []
        self.clips, self.bytes, self.untouched = 0, 0, 0
        for number, plan in enumerate(shards):
            sidecar = plan.finished()
            if sidecar is None:
                self.todo.append(number)
            else:
                self.add(sidecar)

    def add(self, sidecar: Sidecar) -> None:
        self.clips += len(sidecar.members)
        self.bytes += sidecar.bytes
        self.untouched += sum(not member.encoded for member in sidecar.members)

    def progress(self, source: str) -> Progress:
        return Progress(source, self.clips, sum(self.shards.sizes))


def _units(states: dict[str, _SourceState], todo: Sequence[tuple[str, int]]) -> Iterator[list[ShardPlan]]:
    for name, number in todo:
        yield [states[name].shards.plan(number)]


def _finish(store: Store, source: str, state: _SourceState) -> StepResult:
    changed = tabulate(store, source)
    figures = {"bytes": state.bytes, "written": len(state.todo), "stored untouched": state.untouched}
    return StepResult({"shards": len(state.shards), "samples": state.clips}, not changed and not state.todo, figures)
