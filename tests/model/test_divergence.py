"""What counts as diverged, and that such a run ends with its last good checkpoint."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_training import CONFIG, CPU, pretraining, stream

from model import checkpoint as checkpoints
from model.course import DivergedLoss, NonFiniteLoss
from model.divergence import PATIENCE, WINDOW, Watch
from model.optim import OptimConfig
from model.training import Progress, fit

WARMUP = 200
Curve = Callable[[int], float]


def stopped_at(curve: Curve, steps: int = 1500, through_json_at: int | None = None) -> int | None:
    """The step at which a watch calls the curve diverged."""
    noise, watch = random.Random(0), Watch(WARMUP)
    for step in range(1, steps + 1):
        watch.observe(curve(step) * (1 + 0.2 * noise.gauss(0, 1)))
        if watch.diverged:
            return step
        if step == through_json_at:
            watch = Watch(WARMUP, json.loads(json.dumps(watch.state())))
    return None


def learning(step: int) -> float:
    return 0.7 + 0.5 * math.exp(-step / 200)


HEALTHY: dict[str, Curve] = {
    "falls": learning,
    "never learns": lambda step: 1.0,
    "is learned by heart": lambda step: 2 * math.exp(-step / 50) + 0.005,
    "a good start is disturbed by the warm-up": lambda step: 0.1 if step < 70 else 0.1 + 0.5 * math.exp(-step / 300),
    "a spike passes": lambda step: 9.0 if 600 <= step < 640 else learning(step),
    "gets a little worse in the end": lambda step: learning(step) + (0.1 if step > 800 else 0),
}
DIVERGED: dict[str, Curve] = {
    "all that was learned is lost": lambda step: learning(step) if step < 700 else 1.15,
    "explodes in the warm-up": lambda step: 1.2 if step < 30 else 30.0,
    "runs away": lambda step: learning(step) * math.exp(max(0, step - 700) / 100),
}


@pytest.mark.parametrize("curve", HEALTHY.values(), ids=HEALTHY)
def test_healthy_losses_are_let_be(curve: Curve) -> None:
    assert stopped_at(curve) is None


@pytest.mark.parametrize("curve", DIVERGED.values(), ids=DIVERGED)
def test_diverged_losses_are_stopped_in_time_also_after_a_resume(curve: Curve) -> None:
    step = stopped_at(curve)
    assert step is not None
    began = 30 if curve(100) > 20 else 700
    assert began + PATIENCE < step <= began + PATIENCE + 3 * WINDOW
    assert stopped_at(curve, through_json_at=step - 30) == step


@pytest.mark.usefixtures("one_rank")
def test_a_run_that_diverges_names_the_checkpoint_from_before(tmp_path: Path) -> None:
    seen: list[Progress] = []
    config = replace(CONFIG, steps=400, checkpoint_every=20, optim=OptimConfig(1e-3, 2))
    objective = pretraining()

    def spoil(progress: Progress) -> None:
        """As a bad batch or a cosmic ray might."""
        seen.append(progress)
        if progress.step == 110:
            objective.model.decoder.head.weight.data.mul_(50)

    outcome = fit(objective, stream(), config, tmp_path, CPU, report=spoil, should_stop=lambda: len(seen) == 170)
    # Too high from soon after the 110th step on: none is saved then, but when told to stop.
    assert outcome.step == 171
    assert [p.step for p in seen if p.checkpoint] == [20, 40, 60, 80, 100, 171]

    objective = pretraining()
    resume = checkpoints.latest(tmp_path)
    with pytest.raises(DivergedLoss, match=r"step 2\d\d: the loss has diverged.* good checkpoint is .*step-000100\."):
        fit(objective, stream(171), config, tmp_path, CPU, resume=resume, report=seen.append)
    assert all(math.isfinite(p.loss) for p in seen)
    assert checkpoints.latest(tmp_path) == resume


@pytest.mark.usefixtures("one_rank")
def test_a_mad_rate_ends_the_run(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=400, checkpoint_every=500, optim=OptimConfig(30.0, 10, final_rate=30.0))
    with pytest.raises((DivergedLoss, NonFiniteLoss), match=r"last good checkpoint is none.*Lower the rate"):
        fit(pretraining(), stream(), config, tmp_path, CPU)
