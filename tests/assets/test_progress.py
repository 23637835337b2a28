"""What the run log says while sources are worked on."""

from types import SimpleNamespace
from typing import Any

import pytest

from assets import progress as run_log
from warehouse.step_result import Progress


def test_each_source_has_its_own_rate_failures_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = 100.0
    monkeypatch.setattr(run_log.time, "monotonic", lambda: now)
    context: Any = SimpleNamespace(log=SimpleNamespace(info=said.append))
    report = run_log.progress_log(context, "probe")
    report(Progress("a", 50, 100))  # done in an earlier run: no part of the rate
    report(Progress("b", 0, 40))
    for seconds, progress in (
        (104.0, Progress("a", 60, 100, 1)),  # too early to be said
        (110.0, Progress("a", 70, 100, 3)),
        (120.0, Progress("a", 100, 100, 3)),
        (130.0, Progress("b", 20, 40)),
        (130.1, Progress("b", 40, 40)),  # its end is said however early
    ):
        now = seconds
        report(progress)
    assert said == [
        "probe a: 70/100 clips, 3 failed, 2.0 clips/s, 15 s left",
        "probe a: 100/100 clips, 3 failed, 2.5 clips/s, 0 s left",
        "probe b: 20/40 clips, 2.0 clips/s, 10 s left",
        "probe b: 40/40 clips, 4.0 clips/s, 0 s left",
    ]


def test_of_sources_worked_on_at_once_none_seems_faster_than_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = 100.0
    monkeypatch.setattr(run_log.time, "monotonic", lambda: now)
    context: Any = SimpleNamespace(log=SimpleNamespace(info=said.append))
    report = run_log.progress_log(context, "shards", in_turn=False)
    for seconds, progress in ((110.0, Progress("a", 50, 50)), (110.1, Progress("b", 20, 40))):
        report(Progress(progress.source, 0, progress.total))
        now = seconds
        report(progress)
    assert said == ["shards a: 50/50 clips, 5.0 clips/s, 0 s left", "shards b: 20/40 clips, 2.0 clips/s, 10 s left"]
