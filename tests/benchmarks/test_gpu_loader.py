"""All parts of the GPU loader's benchmark, very small, with DALI's CPU decoder; and what it says without a GPU."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch
from av.video.frame import PictureType

from benchmarks import gpu_loader, gpu_loader_data
from benchmarks.gpu_loader_data import ClipShape
from loaders.views import LoaderConfig
from warehouse.catalog.sample import Sample
from warehouse.shards.reader import read_sample

PLAN = gpu_loader.Plan(
    device=torch.device("cpu"),
    shape=ClipShape("mjpeg", 76, (90, 72)),
    clips=3,
    loader=LoaderConfig(clips_per_batch=2, frames=8, size=32, views=2, workers=1),
    starts=(0, 44),
    threads=(1, 2),
    batches=2,
    turns=2,
    models=("tiny",),
    steps=2,
    warm_steps=1,
)


@pytest.mark.skipif(sys.platform != "linux", reason="DALI exists for Linux alone")
def test_all_parts_run_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_loader, "WORK", tmp_path / "work")
    result = gpu_loader.measure(PLAN)
    decoding = {f"{how}, start {start}" for how in ("whole clip", "trimmed") for start in PLAN.starts}
    assert decoding < result["decoding"].keys() and len(result["decoding"]) == len(decoding) + 5
    assert result["decoding_by_threads"].keys() == {1, 2} and result["loading"].keys() == {"DALI", "PyAV"}
    rates = result["pretraining"]["tiny"]
    assert rates.keys() == {"DALI", "PyAV", "one batch over and over"}
    for figures in rates.values():
        assert figures["clips_per_s"] > 0 and figures["views_per_s"] == 2 * figures["clips_per_s"]
        assert 0 <= figures["waiting_share"] <= 1
    assert rates["one batch over and over"]["waiting_share"] == 0
    for numbers in (result["decoding"], result["decoding_by_threads"], result["loading"]):
        assert min(numbers.values()) > 0
    printed = gpu_loader.table(result)
    assert "| ViT-tiny | DALI |" in printed and "280 videos/s" in printed
    assert not (tmp_path / "work").exists()


def test_h264_is_stored_in_the_three_ways_that_are_compared(tmp_path: Path) -> None:
    stored = gpu_loader_data.store(tmp_path, 1, ClipShape("h264", 76, (90, 72)))
    sides = {way: {(sample.width, sample.height, sample.codec) for sample in stored[way]} for way in stored}
    assert sides == {
        gpu_loader.NP256: {(90, 72, "h264")}, gpu_loader.NO_B: {(90, 72, "h264")}, gpu_loader.WIDE: {(96, 80, "h264")},
    }  # fmt: skip
    assert b_frames(stored[gpu_loader.NP256][0]) and not b_frames(stored[gpu_loader.NO_B][0])
    cases = gpu_loader.decoding_cases(PLAN, stored | {way: stored[way] * 3 for way in stored})
    sizes = {name: sum(len(packed.clip.data) for packed in case) for name, case in cases.items()}
    # Less is handed over the more is trimmed away, and the same frames are asked for.
    trimmed = sizes["trimmed, uniform starts"]
    assert trimmed < sizes["trimmed, disposable B-frames kept"] <= sizes["whole clip, uniform starts"]
    for name, case in cases.items():
        assert all(len(packed.clip.frame_ids) == PLAN.loader.frames for packed in case), name


def b_frames(sample: Sample) -> bool:
    with av.open(io.BytesIO(read_sample(sample))) as container:
        return any(frame.pict_type == PictureType.B for frame in container.decode(video=0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_ends_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_loader.main(["--json"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "NVIDIA GPU" in captured.err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU: the benchmark was not run on one")
def test_all_parts_run_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_loader, "WORK", tmp_path / "work")
    plan = replace(PLAN, device=torch.device("cuda", 0), shape=ClipShape("h264", 76, (340, 256)))
    result = gpu_loader.measure(plan)
    assert min(result["decoding"].values()) > 0
