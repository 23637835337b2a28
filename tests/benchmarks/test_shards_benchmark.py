"""A very small run of the shards benchmark: both sides do the same work, and the figures that it promises are there."""

import io
import json
from pathlib import Path

import av
import pytest

from benchmarks import shards
from warehouse.shards.conformance import examine
from warehouse.shards.rendition import CONTRACTS


def test_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "WORK", tmp_path / "work")
    monkeypatch.setattr(shards, "CORPUS_CLIPS", 64)
    monkeypatch.setattr(shards, "UNCHANGED_BYTES", 200_000)
    monkeypatch.setattr(shards, "ENCODED_CLIPS", 3)
    monkeypatch.setattr(shards, "GROUP_CLIPS", 2)
    made: list[Path] = []

    def kept(source: str, target: Path, fps: float | None) -> None:
        transcode(source, target, fps)
        made.append(tmp_path / target.name)
        made[-1].write_bytes(target.read_bytes())

    transcode = shards.transcode
    monkeypatch.setattr(shards, "transcode", kept)
    assert shards.main(["--repetitions", "1", "--videos", str(tmp_path / "none"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    parts = {"tar": "unchanged", "tar_and_checksums": "checked", "ffmpeg": "encoded"}
    for other, part in parts.items():
        ours, theirs = (result[part]["seconds"][arm][0] for arm in ("ours", "theirs"))
        assert result[f"ratio_vs_{other}"] == pytest.approx(ours / theirs)
    assert result["unchanged"]["bytes"] >= 200_000 and result["encoded"]["clips"] == 3
    # What is compared with is as good as ours: it meets the same contract.
    for path in made:
        with av.open(str(path)) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert examine(io.BytesIO(path.read_bytes()), CONTRACTS["np256"], shards.STRIDE, frames).breach is None
    original = result["quality"].pop("original")
    assert original["of_original"] == 1 and original["psnr"] is None
    for figures in result["quality"].values():
        assert 30 < figures["psnr"] < 60 and 0.9 < figures["ssim"] < 1
    assert "| np256 |" in shards.table(result) and not (tmp_path / "work").exists()
