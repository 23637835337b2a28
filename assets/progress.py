"""What the run log says while sources are worked on."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg

from warehouse.step_result import Progress

PROGRESS_SECONDS = 5.0


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
