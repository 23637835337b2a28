"""A very small run of the decode benchmark: its arms show the same, and the figures that it promises are there."""

import io
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks import decode, decode_arms, decode_bound, decode_clips

pytest.importorskip("decord", reason="the benchmark compares with decord: pip install -e '.[bench]'")


def scene(path: Path) -> decode_clips.Scene:
    """Three seconds of smooth colours that move, in no hurry."""
    y, x = np.mgrid[0:256, 0:340].astype(np.float32)
    with av.open(path, "w") as output:
        stream = output.add_stream("libx264", rate=30, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        for t in range(90):
            waves = [np.sin(x / 31 + 0.05 * t), np.sin(y / 23 - 0.04 * t), np.sin((x + y) / 41 + 0.03 * t)]
            pixels = (np.stack(waves, axis=-1) * 90 + 128).astype(np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode(None))
    return decode_clips.Scene("waves", (path,), 30)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clip of three seconds. torchcodec is left out where it would need another process."""
    found = scene(tmp_path / "waves.mp4")
    monkeypatch.setattr(decode, "WORK", tmp_path / "work")
    monkeypatch.setattr(decode, "scenes", lambda _: ([found], True))
    monkeypatch.setattr(decode_clips, "SECONDS", 3)
    monkeypatch.setattr(decode_bound, "CLIPS", 2)
    monkeypatch.setattr(decode_bound, "BATCHES", 5)
    monkeypatch.setattr(decode_bound, "SETTLE_S", 0.2)
    monkeypatch.setattr(decode, "require_others", lambda: None)
    try:
        import torchcodec  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        monkeypatch.setattr(decode, "ARMS", {k: arm for k, arm in decode.ARMS.items() if k != "torchcodec"})


@pytest.mark.usefixtures("small")
def test_decode(capsys: pytest.CaptureFixture[str]) -> None:
    assert decode.main(["--turns", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    seconds, uniform = result["cpu_seconds"], decode.UNIFORM
    for key, way in (("same", "GOP 32"), ("gop250", "GOP 250")):
        ratios = [slow / fast for slow, fast in zip(seconds[way][uniform]["decord"], seconds["np256"][uniform]["ours"],
                                                    strict=True)]  # fmt: skip
        assert result[f"ratio_vs_decord_{key}"] == pytest.approx(ratios[0])
    limits = result["bound"]["np256"]
    shares = [pyav / loader for pyav, loader in zip(limits["pyav"], limits["loader"], strict=True)]
    assert result["share_of_bound"] == pytest.approx(shares[0])
    for name, ways in result["clips_per_cpu_second"].items():
        assert set(ways) == set(decode.SAMPLINGS)
        for way, rates in ways.items():
            assert {"ours", "decord", "OpenCV", "webdataset"} <= rates.keys()
            assert rates["ours"] == pytest.approx(1 / sum(seconds[name][way]["ours"]))
    assert all(found["psnr"] > 35 for found in result["stored"].values())
    text = decode.table(result)
    assert text.count("\n| np256 |") == len(decode.SAMPLINGS) + 1 and f"{result['ratio_vs_decord_same']:.2f}" in text


@pytest.mark.usefixtures("small")
def test_an_arm_that_shows_other_frames_ends_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(clip: decode_arms.Clip, views: decode_arms.Views, pixels: np.ndarray) -> None:
        decode_arms.opencv(clip, views, pixels)
        pixels[:, :-1] = pixels[:, 1:].copy()

    monkeypatch.setitem(decode.ARMS, "OpenCV", late)
    with pytest.raises(RuntimeError, match=r"OpenCV, uniform starts, GOP 32: clip 0 is off by"):
        decode.main(["--turns", "1"])


def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "decord.py").write_text("raise ImportError('No module named decord')")
    command = [sys.executable, "-m", "benchmarks.decode"]
    root = Path(__file__).parents[2]
    run = subprocess.run(command, cwd=root, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert run.returncode == 1 and "pip install -e '.[bench]'" in run.stderr and not run.stdout
    with pytest.raises(FileNotFoundError, match=r"--videos"):
        (tmp_path / "odd").mkdir()
        decode_clips.scenes(tmp_path)


def test_pictures_are_those_of_the_source_forward_and_back(tmp_path: Path) -> None:
    found = scene(tmp_path / "waves.mp4")
    pictures = decode_clips.pictures(found)
    lumas = [np.frombuffer(next(pictures).planes[0], np.uint8)[:340].copy() for _ in range(100)]
    np.testing.assert_array_equal(lumas[90], lumas[88])
    assert not np.array_equal(lumas[89], lumas[88])
    data = decode_clips.x264(list(islice(decode_clips.pictures(found), 40)), 30, {"g": "8"})
    with av.open(io.BytesIO(data)) as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0)) == 5
