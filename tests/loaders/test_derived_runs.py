"""What is made of a trained classifier, as the training entry point makes it: students, their scores, and features."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from small_snapshot import CLASSES, SNAPSHOT, write_snapshot

from assets import run_features, stage_runs, thumbnails
from assets.derived_stages import DistillSettings, FeatureSettings, Student
from assets.run_evaluation import evaluate_run
from assets.stages import EvaluationSettings, PretrainSettings, RunSpec, SupervisedSettings
from assets.start import weights_sha256
from assets.train import _run
from loaders.failures import SHARD, TooManyFailuresError
from loaders.sampling import sliding_windows
from loaders.views import EvaluationConfig, LoaderConfig
from loaders.window_loader import WindowLoader
from loaders.windows import WindowConfig
from model.features import FeatureConfig, FeatureExtractor
from model.optim import OptimConfig
from model.sizes import SIZES
from model.training import FitConfig
from model.transfer import load_classifier, transfer
from warehouse.catalog.snapshots import Sample, open_snapshot
from warehouse.store import Store
from warehouse.takedown.takedowns import take_down

MakeSamples = Callable[[list[bytes]], list[Sample]]
CPU = torch.device("cpu")
LOADER = LoaderConfig(clips_per_batch=3, frames=8, size=48, mixup=0.8)
EVALUATION = EvaluationConfig(clips_per_batch=2, frames=8, size=48)
WINDOWS = WindowConfig(clips_per_batch=3, frames=8, size=48)


def fit_config(steps: int) -> FitConfig:
    return FitConfig(steps, checkpoint_every=2, seed=5, optim=OptimConfig(peak_rate=1e-3, warmup_steps=1))


def run(spec: RunSpec, store: Store, stop: Callable[[], bool] = lambda: False) -> list[str]:
    """Run a stage; what it said."""
    said: list[str] = []
    (store.runs / spec.run_id).mkdir(parents=True, exist_ok=True)
    status = _run(spec, store, CPU, stop, said.append)
    assert status == int(stop())
    return said


@pytest.fixture
def finetuned(
    one_rank: None, one_thread: None, clips: list[bytes], make_samples: MakeSamples, tmp_path: Path
) -> tuple[Store, RunSpec]:
    """A fine-tuned model of two classes on nine training clips; two of validation."""
    store = write_snapshot(tmp_path, make_samples(clips[:11]))
    pretrained = RunSpec("pretrained", SNAPSHOT, None, PretrainSettings("tiny", LOADER, fit_config(1)))
    run(pretrained, store)
    spec = RunSpec("finetuned", SNAPSHOT, pretrained.checkpoint, SupervisedSettings(LOADER, fit_config(3)))
    run(spec, store)
    return store, spec


def result(store: Store, spec: RunSpec) -> dict:
    return json.loads((store.runs / spec.run_id / "result.json").read_text())


def test_students_learn_of_the_finetuned_model_and_are_scored_as_it_is(finetuned: tuple[Store, RunSpec]) -> None:
    store, teacher = finetuned
    given = store.root / teacher.checkpoint / "weights.safetensors"
    students = (Student("micro"), Student("tiny", str(given), weights_sha256(given)))
    settings = DistillSettings(students, LOADER, fit_config(4), drop_path=0.0)
    spec = RunSpec("distilled", SNAPSHOT, teacher.checkpoint, settings)
    said = run(spec, store)
    assert f"teacher: {store.root / teacher.checkpoint}, size tiny" in said
    assert "student micro: fresh" in said and any(line.startswith("student tiny: ") and "kept" in line for line in said)
    assert any("(micro " in line and ", tiny " in line for line in said if line.startswith("step 4/4  loss "))
    steps = [json.loads(line) for line in (store.runs / spec.run_id / "metrics.jsonl").read_text().splitlines()]
    # The one that begins with the teacher's weights has nothing to learn yet; the loss is the mean of both.
    assert all(set(step["losses"]) == {"micro", "tiny"} for step in steps)
    assert all(step["loss"] == pytest.approx(sum(step["losses"].values()) / 2) for step in steps)
    assert steps[0]["losses"]["tiny"] < 1e-6 < steps[0]["losses"]["micro"]

    # Each lies where the next stages look for it.
    for name, folder in spec.models.items():
        model = load_classifier(store.root / folder)
        assert (model.config.size.name, model.config.class_names) == (name, tuple(CLASSES))
        evaluation = RunSpec("evaluation", SNAPSHOT, folder, EvaluationSettings(EVALUATION))
        run(evaluation, store)
        scored = result(store, evaluation)
        assert scored["checkpoint"] == folder and 0 <= scored["scores"]["top1"] <= 1 and scored["scores"]["clips"] == 2
    # Weights are told by what they hold, not by where they lie.
    moved = (students[0], replace(students[1], weights="elsewhere"))
    assert replace(spec, settings=replace(settings, students=moved)).run_id == spec.run_id
    other = (students[0], replace(students[1], sha256="0"))
    assert replace(spec, settings=replace(settings, students=other)).run_id != spec.run_id


def test_a_teacher_of_other_classes_is_refused(finetuned: tuple[Store, RunSpec]) -> None:
    store, teacher = finetuned
    [row] = store.rows("snapshots", SNAPSHOT)
    store.write("snapshots", [row | {"classes": list(reversed(CLASSES))}], SNAPSHOT)
    settings = DistillSettings((Student("micro"),), LOADER, fit_config(1))
    with pytest.raises(ValueError, match=r"knows 2 classes, and snapshot .* has 2 others, or in another order"):
        run(RunSpec("distilled", SNAPSHOT, teacher.checkpoint, settings), store)


def features_of(teacher: RunSpec, config: WindowConfig = WINDOWS) -> RunSpec:
    return RunSpec("features", SNAPSHOT, teacher.checkpoint, FeatureSettings(config))


def vectors(store: Store, spec: RunSpec) -> dict[tuple[str, int], list[float]]:
    return {(row["clip_id"], row["start_frame"]): row["vector"] for row in store.rows("features", spec.run_id)}


def test_features_are_those_of_the_model_for_every_window_of_every_split(finetuned: tuple[Store, RunSpec]) -> None:
    store, teacher = finetuned
    config = replace(WINDOWS, every=16, spatial_views=2)
    spec = features_of(teacher, config)
    run(spec, store)
    rows = store.rows("features", spec.run_id)
    samples = [sample for split in ("train", "val") for sample in open_snapshot(store, SNAPSHOT, split)]
    starts = {sample.clip_id: sliding_windows(sample.frames, 8, 16)[:, 0].tolist() for sample in samples}
    assert [(row["clip_id"], row["start_frame"]) for row in rows] == [
        (clip, start) for clip, own in starts.items() for start in own
    ]
    by_clip = {sample.clip_id: sample for sample in samples}
    for row in rows:
        sample = by_clip[row["clip_id"]]
        assert (row["source"], row["split"], row["views"]) == (sample.source, sample.split, 2)
        assert row["start_ms"] == round(1000 * row["start_frame"] / 30)
        assert (row["run_id"], row["checkpoint"]) == (spec.run_id, teacher.checkpoint)
    assert result(store, spec) | {"attempt_seconds": 0} == {
        "status": "finished", "checkpoint": teacher.checkpoint, "vectors": len(rows), "clips": 11, "failed": 0,
        "attempt_seconds": 0,
    }  # fmt: skip

    # By the model itself, clip by clip.
    model = FeatureExtractor(FeatureConfig(SIZES["tiny"], 8, 48))
    transfer(model, store.root / teacher.checkpoint)
    found = vectors(store, spec)
    with WindowLoader(replace(config, clips_per_batch=1)) as loader, torch.no_grad():
        for batch in loader.batches(samples[::4]):
            expected = model(batch.frames).unflatten(0, (-1, 2)).mean(1).numpy()
            got = np.array([found[window.sample.clip_id, window.start_frame] for window in batch.windows])
            np.testing.assert_allclose(got, expected, atol=1e-5)

    # What the asset shows: three clips at the head of rows of those that are nearest to them, by any of their windows.
    shown = thumbnails.of_features(store, spec.run_id, SNAPSHOT)
    assert shown and shown.value.count("drifting left, 96 × 72") + shown.value.count("zooming in, 96 × 72") == 3
    unit = {place: np.array(vector) / np.linalg.norm(vector) for place, vector in found.items()}
    wanted = []
    for head in sorted(starts)[:3]:
        others = [(max(unit[head, 0] @ unit[c, start] for start in own), c) for c, own in starts.items() if c != head]
        wanted += [head, *(clip for _, clip in sorted(others, reverse=True)[:3])]
    assert re.findall(r"!\[(clip-\d+)\]", shown.value) == wanted


def test_extraction_goes_on_unit_by_unit_and_a_clip_taken_down_meanwhile_is_left_out(
    finetuned: tuple[Store, RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, teacher = finetuned
    monkeypatch.setattr(run_features, "UNIT_WINDOWS", 3)
    spec = features_of(teacher)
    folder = store.runs / spec.run_id / "features"
    run(spec, store, stop=lambda: len(list(folder.glob("*"))) == 2)
    assert result(store, spec)["status"] == "cancelled" and len(list(folder.glob("*"))) == 2
    assert not store.path("features", spec.run_id).exists()
    kept = (folder / "unit-000000.parquet").stat().st_ino

    # Taken down: clip 4, of the second unit. The first is kept, the others hold other clips now.
    samples = open_snapshot(store, SNAPSHOT, "train")
    clip_ids = [sample.clip_id for sample in samples]
    take_down(store, [clip_ids[4]], "asked", "me")
    inodes: list[int] = []
    join = run_features._join

    def joined(*arguments: Any) -> None:
        inodes.append((folder / "unit-000000.parquet").stat().st_ino)
        join(*arguments)

    monkeypatch.setattr(run_features, "_join", joined)
    said = run(spec, store)
    assert any("1 of 4 units are there" in line for line in said) and inodes == [kept]
    assert {clip for clip, _ in vectors(store, spec)} == {*clip_ids[:4], *clip_ids[5:], "clip-09", "clip-10"}
    assert not folder.exists()

    # Killed after the table was written: it is found, and nothing is extracted again.
    (store.runs / spec.run_id / "result.json").unlink()
    written = store.path("features", spec.run_id).stat().st_ino
    shutil.rmtree(store.root / teacher.checkpoint)
    run(spec, store)
    assert store.path("features", spec.run_id).stat().st_ino == written and result(store, spec)["vectors"] == 10


def evaluation_of(teacher: RunSpec) -> RunSpec:
    return RunSpec("evaluation", SNAPSHOT, teacher.checkpoint, EvaluationSettings(EVALUATION, split="train"))


def test_an_evaluation_that_is_stopped_begins_anew(finetuned: tuple[Store, RunSpec]) -> None:
    store, teacher = finetuned
    spec = evaluation_of(teacher)
    run(spec, store, stop=lambda: True)
    assert result(store, spec) | {"attempt_seconds": 0} == {
        "status": "cancelled", "checkpoint": teacher.checkpoint, "attempt_seconds": 0,
    }  # fmt: skip
    stage_runs._start(store, spec, [])
    stage_runs._finish(store, spec, result(store, spec))
    assert [row["status"] for row in store.rows("runs", spec.run_id)] == ["cancelled"]
    assert store.rows("scores", spec.run_id) == []
    run(spec, store)
    assert result(store, spec)["scores"]["clips"] == 9


def two_ranks_score(rank: int, root: Path, spec: RunSpec) -> None:
    dist.init_process_group("gloo", init_method=f"file://{root}/meeting", rank=rank, world_size=2)
    assert isinstance(spec.settings, EvaluationSettings)
    scored = evaluate_run(spec, spec.settings, Store(root), CPU, lambda: False, lambda text: None)
    # One rank is told to stop, and both do.
    stopped = evaluate_run(spec, spec.settings, Store(root), CPU, lambda: rank == 1, lambda text: None)
    (root / f"scored-{rank}.json").write_text(json.dumps([scored, stopped["status"]]))
    dist.destroy_process_group()


def test_ranks_share_an_evaluation_and_score_as_one_does(finetuned: tuple[Store, RunSpec]) -> None:
    """Nine clips: one rank has five, the other four."""
    store, teacher = finetuned
    spec = evaluation_of(teacher)
    run(spec, store)
    alone = result(store, spec)
    del alone["attempt_seconds"]
    mp.spawn(two_ranks_score, (store.root, spec), nprocs=2)
    for rank in range(2):
        scored, stopped = json.loads((store.root / f"scored-{rank}.json").read_text())
        assert (scored, stopped) == (alone, "cancelled")
        assert list(scored["predictions"]) == list(alone["predictions"])


def two_ranks(rank: int, root: Path, spec: RunSpec) -> None:
    dist.init_process_group("gloo", init_method=f"file://{root}/rendezvous", rank=rank, world_size=2)
    run_features.UNIT_WINDOWS = 2
    result = run_features.extract_run(spec, spec.settings, Store(root), CPU, lambda: False, lambda text: None)
    assert (result["vectors"], result["clips"]) == (11, 11)
    dist.destroy_process_group()


def test_ranks_share_the_units_and_make_what_one_makes(finetuned: tuple[Store, RunSpec]) -> None:
    store, teacher = finetuned
    spec = features_of(teacher)
    run(spec, store)
    alone = store.rows("features", spec.run_id)
    store.path("features", spec.run_id).unlink()
    mp.spawn(two_ranks, (store.root, spec), nprocs=2)
    shared = store.rows("features", spec.run_id)
    assert [row["clip_id"] for row in shared] == [row["clip_id"] for row in alone]
    # Other batches: sums differ in their last digits.
    for one, other in zip(shared, alone, strict=True):
        np.testing.assert_allclose(one["vector"], other["vector"], atol=1e-5)


def test_clips_that_fail_are_recorded_and_too_many_stop_the_run(finetuned: tuple[Store, RunSpec]) -> None:
    store, teacher = finetuned
    spec = features_of(teacher)
    rows = store.rows("samples", "one")
    store.write("samples", [row | ({"sha256": "0" * 64} if i == 3 else {}) for i, row in enumerate(rows)], "one")
    run(spec, store)
    [failure] = map(json.loads, (store.runs / spec.run_id / "failures.jsonl").read_text().splitlines())
    assert (failure["clip_id"], failure["error_class"]) == (rows[3]["clip_id"], SHARD)
    assert (result(store, spec)["vectors"], result(store, spec)["failed"]) == (10, 1)
    assert rows[3]["clip_id"] not in {clip for clip, _ in vectors(store, spec)}

    store.write("samples", [row | {"sha256": "0" * 64} for row in rows], "one")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TooManyFailuresError, match="clips failed"):
        patch.setattr(run_features, "MIN_TRIES", 5)
        run(features_of(teacher, replace(WINDOWS, every=60)), store)
