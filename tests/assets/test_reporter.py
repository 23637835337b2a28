"""What a training run notes of clips that it had to pass over, and that it goes on."""

import json
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from assets.reporter import Reporter
from assets.run_clips import order_words
from loaders.views import LoaderConfig
from model.checkpoint import Checkpoint
from model.training import Progress
from pipelines.presets import smoke
from warehouse.catalog.sample import Sample

CPU = torch.device("cpu")
LOST = {"rank": 1, "clip_id": "lost", "error_class": "shard_error", "error": "s/1.tar: cannot read clip lost"}
TORN = {"rank": 0, "clip_id": "torn", "error_class": "decoder_hung", "error": "clip torn in s/2.tar: …"}


def progress(step: int, *failed: dict, checkpoint: Path | None = None) -> Progress:
    return Progress(
        step=step, steps=9, loss=1.0, rate=0.1, grad_norm=1.0, clips_per_s=100.0, data_wait_share=0.25, failed=failed,
        checkpoint=checkpoint,
    )  # fmt: skip


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_failed_clips_are_in_log_metrics_and_tensorboard_also_after_a_resume(tmp_path: Path) -> None:
    said: list[str] = []
    gone = Sample("gone", "", "train", None, 1.0, 4, tmp_path / "gone.tar", 0, 9, "", "h264", 30.0, 64, 64, 64)
    first = Reporter(tmp_path, smoke().pretrained, [gone], None, CPU, said.append)
    for step in (progress(1, LOST), progress(2), progress(3, LOST, TORN)):
        first.report(step)
    # A picture is drawn at a checkpoint, of clips one of which cannot be read: no reason to stop training.
    last = progress(4, LOST, checkpoint=tmp_path / "checkpoints" / "step-000004")
    first.report(last)
    # Before the checkpoint is there: a kill between the two leaves nothing out, and no event is only in memory.
    assert scalars(tmp_path, "loss") == [(1, 1), (2, 1), (3, 1), (4, 1)] and not (tmp_path / "checkpoints").exists()
    first.saved(last)
    first.close()
    assert [row["failed"] for row in rows(tmp_path / "metrics.jsonl")] == [1, 0, 2, 1]
    assert [(row["step"], row["rank"], row["clip_id"]) for row in rows(tmp_path / "failures.jsonl")] == [
        (1, 1, "lost"), (3, 1, "lost"), (3, 0, "torn"), (4, 1, "lost"),
    ]  # fmt: skip
    assert said[:2] == [f"clip {f['clip_id']} was passed over ({f['error_class']}): {f['error']}" for f in (LOST, TORN)]
    assert said[2] == "saved step-000004" and said[3].startswith("no picture of step-000004") and "gone" in said[3]

    said.clear()
    saved = Checkpoint(tmp_path / "checkpoints" / "step-000003", 3, 0, ({},))
    again = Reporter(tmp_path, smoke().pretrained, [gone], saved, CPU, said.append)  # killed before step 4 was saved
    again.report(progress(4, TORN))
    again.report(progress(9))
    again.close()
    assert [row["failed"] for row in rows(tmp_path / "metrics.jsonl")] == [1, 0, 2, 1, 0]
    no_picture, line = said  # both clips have been told of before
    assert no_picture.startswith("no picture of step-000003")  # the killed run had not come to it
    assert "100 clips/s  data_wait 25%  4 clips failed" in line
    assert scalars(tmp_path, "failed_clips") == [(1, 1), (2, 1), (3, 3), (4, 4), (9, 4)]


def test_the_log_says_how_clips_are_drawn() -> None:
    assert order_words(LoaderConfig(8)) == "draws by the weights of the snapshot's clips; a global shuffle"
    mixed = LoaderConfig(8, source_shares={"kinetics": 3, "webvid": 1}, run_clips=16)
    assert order_words(mixed) == (
        "draws by source: kinetics 75.0%, webvid 25.0%; runs of 16 clips of one shard, shuffled"
    )
