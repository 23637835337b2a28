"""A very small run of the learning benchmark: every arm is trained and scored, and on nothing that it has seen."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import learning, learning_data, learning_real, learning_report, learning_stages
from benchmarks.learning import RENDERED_PAIRS
from benchmarks.learning_stages import Schedule
from model import cubes
from warehouse.corpus.encoding import write_video
from warehouse.corpus.motions import MOTIONS, Scene, render

FEW = Schedule(
    pretrain_steps=2,
    post_steps=2,
    finetune_steps=2,
    distil_steps=2,
    real_pretrain_steps=2,
    real_finetune_steps=2,
    labels_per_class=1,
    pretrain_clips=2,
    supervised_clips=4,
)
SEQUENCES = range(1, 21)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A folder as UT-Interaction's: of each sequence a clip of an action, and of some one in which nothing happens."""
    rows = []
    for sequence in SEQUENCES:
        kinds = [("hug" if sequence % 2 else "kick", 1), *([("push", 0)] if sequence in (1, 11) else [])]
        for label, official in kinds:
            path, frames = f"set/{sequence}_{official}.avi", 20 + sequence
            _video(tmp_path / "real" / learning_real.ACTIONS / path, f"{sequence}/{official}", sequence, frames)
            width, height = (64, 48) if label == "hug" else (48, 64)
            rows.append(f"{path},{label},{sequence},{official},{width},{height},{frames}")
    _video(tmp_path / "real" / learning_real.SIGNS / "sign.mp4", "sign", 3, 30)
    table = "\n".join(["path,label,sequence,official,width,height,frames", *rows, ""])
    (tmp_path / "real" / learning_real.ACTIONS / "labels.csv").write_text(table)
    return tmp_path / "real"


def _video(path: Path, key: str, motion: int, frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".mp4")
    write_video(scratch, render(Scene(key, MOTIONS[motion % len(MOTIONS)], 64, 48), 0, frames), 25)
    scratch.rename(path)


def test_every_arm_is_scored_on_clips_it_has_not_seen(
    tmp_path: Path, real: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning_real, "FOLDS", 2)
    asked = ["--clips", "64", "--seeds", "1", "--work", str(tmp_path / "work"), "--real", str(real), "--json"]
    assert learning.main([*asked, "--only", "0"], FEW) == 0
    assert capsys.readouterr().out == ""
    trained = _times(tmp_path)
    learning.main(asked, FEW)
    result = json.loads(capsys.readouterr().out)
    assert trained and trained == _times(tmp_path), "what --only trained is not trained again"

    rendered, of_people = result["rendered"], result["real"]
    assert {name for pair in RENDERED_PAIRS for name in pair} | {learning.CONTROL} == rendered["arms"].keys()
    steps = {name: arm["steps"] for name, arm in rendered["arms"].items()}
    assert steps[learning.POST] == steps[learning.LONGER] == 6 and steps[learning.PRETRAINED] == 4
    assert all(len(arm["top1"]) == 1 for arm in [*rendered["arms"].values(), *of_people["arms"].values()])
    assert of_people["arms"][learning.PRETRAINED]["steps"] == of_people["arms"][learning.LONGER]["steps"] == 4
    assert of_people["clips"]["scored"] == 8 and of_people["clips"]["top1_metadata_only"] == 1
    assert result["masking"]["least"] <= result["masking"]["ratio"] <= result["masking"]["most"]
    assert "| pre-trained, post-pre-trained | 6 |" in learning_report.table(result)

    assert f"| {learning_report.METADATA} | | 100.0 |" in learning_report.brief(result)

    # Complete: nothing is made again.
    clips = learning_data.prepare(tmp_path / "work" / "clips-64", 64)
    held_out = {sample.clip_id for sample in clips.held_out}
    assert held_out and not held_out & {s.clip_id for s in (*clips.labelled, *clips.merged, *clips.unlabelled)}
    drawn = [clips.few(1, seed) for seed in (0, 1)]
    assert drawn[0] != drawn[1] and [s.class_id for s in drawn[0]] == list(range(len(clips.class_names)))
    folds = learning_real.prepare(tmp_path / "work" / "real", real).folds
    for fold in folds:
        out = {sample.clip_id for sample in fold.held_out}
        assert len(out) == 4 and not out & {sample.clip_id for sample in (*fold.unlabelled, *fold.labelled)}
        assert {sample.frames for sample in fold.unlabelled} == {learning_real.FRAMES}
    # The two clips without an action are out with their sequences, in one fold; the sign is always there.
    assert [len(fold.unlabelled) for fold in folds] == [16 + 1, 16 + 2 + 1]


def _times(work: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime for path in work.rglob(learning_stages.FACTS)}


def test_every_sequence_is_held_out_once() -> None:
    held_out = [number for fold in range(learning_real.FOLDS) for number in learning_real.held_out_sequences(fold)]
    assert sorted(held_out) == list(SEQUENCES)


def test_a_difference_is_paired_by_seed() -> None:
    assert learning_report.difference([0.5, 0.9], [0.4, 0.8]) == pytest.approx({"mean": 0.1, "spread": 0.0})


def test_loss_of_predicting_the_mean() -> None:
    values = learning_stages.SIZE.cube_values
    pixels = torch.randint(256, (1, 40, values), generator=torch.Generator().manual_seed(0))
    target = cubes.targets(pixels.to(torch.uint8))
    assert target.square().mean().item() == pytest.approx(learning_stages.mean_loss(), abs=1e-4)
