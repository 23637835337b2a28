"""The loop: going on to the bit, stopping cleanly, failing clearly, and the same on two ranks."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from small_training import CONFIG, CPU, NAMES, Failed, classification, pretraining, saved_weights, stream

from model import checkpoint as checkpoints
from model import training
from model.checkpoint import CheckpointError, Measure
from model.classifier import Classifier
from model.course import NonFiniteLoss
from model.flops import training_flops
from model.training import Outcome, Progress, fit
from model.transfer import load_classifier, load_pretrainer, transfer


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("make", [pretraining, classification])
def test_resumed_equals_uninterrupted_to_the_bit(make: type, tmp_path: Path) -> None:
    config = replace(CONFIG, accumulate=2, ema_decay=0.8)
    straight: list[Progress] = []
    fit(make(), stream(), config, tmp_path / "straight", CPU, report=straight.append)

    broken: list[Progress] = []
    first = fit(
        make(),
        stream(),
        config,
        tmp_path / "broken",
        CPU,
        report=broken.append,
        should_stop=lambda: len(broken) == 2,
    )
    assert first == Outcome("cancelled", 3, tmp_path / "broken" / "step-000003")
    found = checkpoints.latest(tmp_path / "broken")
    assert found is not None
    assert found.cursors == ({"position": 6},)
    second = fit(make(), stream(6), config, tmp_path / "broken", CPU, resume=found, report=broken.append)
    assert second == Outcome("finished", 6, tmp_path / "broken" / "step-000006")

    assert [(p.step, p.loss, p.grad_norm, p.rate) for p in broken] == [
        (p.step, p.loss, p.grad_norm, p.rate) for p in straight
    ]
    fresh = make().model.state_dict()
    for part in ("", "averaged"):
        expected, got = saved_weights(tmp_path / "straight", part), saved_weights(tmp_path / "broken", part)
        assert expected.keys() == got.keys() == fresh.keys()
        assert all(torch.equal(expected[name], got[name]) for name in expected)
        assert not any(torch.equal(expected[name], fresh[name]) for name in expected if name.endswith("qkv.weight"))


@pytest.mark.usefixtures("one_rank")
def test_a_host_that_runs_ahead_reports_saves_and_stops_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA the numbers of a step are read while the next one is computed."""

    def run(ahead: int, folder: str, every: int, stop_after: int) -> tuple[Outcome, list[Progress]]:
        monkeypatch.setattr(training, "steps_ahead", lambda device: ahead)
        config = replace(CONFIG, checkpoint_every=every)
        seen: list[Progress] = []
        batches = (
            replace(batch, failed=(Failed(f"lost {number}"),) * (number == 2)) for number, batch in enumerate(stream())
        )
        outcome = fit(
            pretraining(),
            batches,
            config,
            tmp_path / folder,
            CPU,
            report=seen.append,
            should_stop=lambda: len(seen) >= stop_after,
        )
        return outcome, seen

    (_, waited), (_, ahead) = run(0, "waited", 2, 9), run(1, "ahead", 2, 9)
    told, expected = (
        [(p.step, p.loss, p.rate, p.grad_norm, p.failed, p.checkpoint and p.checkpoint.name) for p in reports]
        for reports in (ahead, waited)
    )
    assert told == expected
    assert [p.step for p in ahead if p.failed] == [3] and [p.step for p in ahead if p.checkpoint] == [2, 4, 6]
    weights, same = saved_weights(tmp_path / "waited"), saved_weights(tmp_path / "ahead")
    assert all(torch.equal(weights[name], same[name]) for name in weights)

    # A step that was begun is finished, reported and saved with its own cursor.
    outcome, seen = run(1, "stopped", 50, 1)
    assert [p.step for p in seen] == [1, 2, 3, 4]  # told with the third, known when the fourth had begun
    assert outcome == Outcome("cancelled", 4, tmp_path / "stopped" / "step-000004")
    found = checkpoints.latest(tmp_path / "stopped")
    assert found is not None and found.cursors == ({"position": 4},)


@pytest.mark.usefixtures("one_rank")
def test_reports_and_checkpoints(tmp_path: Path) -> None:
    seen: list[Progress] = []
    leftover = tmp_path / ".step-000001.tmp"
    leftover.mkdir()
    (leftover / "half").write_text("written")
    assert checkpoints.latest(tmp_path) is None
    there: list[tuple[int, bool]] = []

    def report(progress: Progress) -> None:
        seen.append(progress)
        if progress.checkpoint:
            there.append((progress.step, progress.checkpoint.exists()))

    def saved_now(progress: Progress) -> None:
        assert progress is seen[-1] and progress.checkpoint
        there.append((progress.step, progress.checkpoint.exists()))

    fit(pretraining(), stream(), replace(CONFIG, steps=5), tmp_path, CPU, report=report, saved=saved_now)
    # A step is reported before it is saved: a kill in between leaves no checkpoint that nobody has heard of.
    assert there == [(2, False), (2, True), (4, False), (4, True), (5, False), (5, True)]
    assert [p.step for p in seen] == [1, 2, 3, 4, 5]
    saved = {p.step: p.checkpoint.name for p in seen if p.checkpoint}
    assert saved == {2: "step-000002", 4: "step-000004", 5: "step-000005"}
    assert all(p.clips_per_s > 0 and 0 < p.data_wait_share < 1 and p.grad_norm > 0 for p in seen)
    a_clip = training_flops(pretraining().model.config) / 1e12
    assert all(p.tflops_per_s == pytest.approx(p.clips_per_s * a_clip) and p.mfu is None for p in seen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000004", "step-000005"]

    found = checkpoints.latest(tmp_path)
    assert found is not None
    assert (found.step, found.seed) == (5, 11)
    again = load_pretrainer(found.path)
    assert again.config == pretraining().model.config
    json.loads((found.path / "meta.json").read_text())


@pytest.mark.usefixtures("one_rank")
def test_a_run_that_is_stopped_is_saved_without_waiting_for_validation(tmp_path: Path) -> None:
    seen: list[Progress] = []
    scored: list[int] = []

    def validate() -> float:
        scored.append(len(seen) + 1)
        return 1 / len(scored)

    def stop() -> bool:
        return len(seen) == 3

    outcome = fit(
        classification(), stream(), CONFIG, tmp_path, CPU, report=seen.append, should_stop=stop, validate=validate
    )
    found = checkpoints.latest(tmp_path)
    # Told in the fourth step, which a checkpoint was due after.
    assert (outcome.status, outcome.step, scored, seen[-1].validation) == ("cancelled", 4, [2], None)
    assert found and found.step == 4 and found.measure is None
    fit(classification(), stream(4), CONFIG, tmp_path, CPU, found, seen.append, validate=validate)
    best = checkpoints.best(tmp_path)
    assert scored == [2, 6] and best and (best.step, best.measure) == (2, Measure("validation", 1.0))


@pytest.mark.usefixtures("one_rank")
def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    outcome = fit(pretraining(), stream(), replace(CONFIG, steps=1), tmp_path, CPU)
    found = checkpoints.latest(tmp_path)
    assert fit(pretraining(), iter(()), replace(CONFIG, steps=1), tmp_path, CPU, resume=found) == outcome


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("ahead", [0, 1])
def test_a_broken_loss_names_the_step_and_where_to_go_on(
    ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that runs ahead has begun the fourth step, which ends with a checkpoint, when it reads of the third."""
    monkeypatch.setattr(training, "steps_ahead", lambda device: ahead)
    objective = pretraining()

    def poison(progress: Progress) -> None:
        if progress.step == 2:
            with torch.no_grad():
                objective.model.mask_token.fill_(torch.nan)

    with pytest.raises(NonFiniteLoss, match=r"step 3: loss nan.*step-000002"):
        fit(objective, stream(), CONFIG, tmp_path, CPU, saved=poison)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]
    assert all(torch.isfinite(value).all() for value in saved_weights(tmp_path).values())


@pytest.mark.usefixtures("one_rank")
def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="accumulate is how many"):
        replace(CONFIG, accumulate=0)
    with pytest.raises(ValueError, match="ema_decay is from 0"):
        replace(CONFIG, ema_decay=1.0)
    with pytest.raises(ValueError, match="ended after step 2"):
        fit(pretraining(), islice(stream(), 2), CONFIG, tmp_path, CPU)
    found = checkpoints.latest(tmp_path)
    assert found is not None
    with pytest.raises(ValueError, match="resume from the latest"):
        fit(pretraining(), stream(), CONFIG, tmp_path, CPU)
    with pytest.raises(ValueError, match="seed 11, not 12"):
        fit(pretraining(), stream(), replace(CONFIG, seed=12), tmp_path, CPU, resume=found)
    with pytest.raises(CheckpointError, match="holds a pretrainer"):
        load_classifier(found.path)


@pytest.mark.usefixtures("one_rank")
def test_stages_follow_each_other(tmp_path: Path) -> None:
    pretrained = fit(pretraining(), stream(), replace(CONFIG, steps=1), tmp_path / "pretrained", CPU)
    objective = classification()
    report = transfer(objective.model, pretrained.checkpoint)
    assert report.head.startswith("fresh")
    tuned = fit(objective, stream(), replace(CONFIG, steps=1), tmp_path / "tuned", CPU)
    again = load_classifier(tuned.checkpoint)
    assert again.config.class_names == NAMES
    narrower = Classifier(replace(again.config, class_names=("turn", "zoom")))
    assert "re-gathered" in transfer(narrower, tuned.checkpoint).head
    assert torch.equal(narrower.head.weight, again.head.weight[[2, 1]])
