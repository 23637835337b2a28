"""What the asset `shards` shows of quality and size: on a whole run, and run again on what that left."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from whole_runs import Whole

from assets import stored_quality
from assets.data import data_assets
from assets.recording import QUALITY
from warehouse.config import Config, Source
from warehouse.media_bytes import open_bytes
from warehouse.media_file import media_file
from warehouse.shards.encoding import encode
from warehouse.shards.quality import picture_quality
from warehouse.shards.sidecar import StoredClip, read_sidecar
from warehouse.store import Store


def tables(text: str) -> list[dict[str, list[str]]]:
    """The tables of a text of Markdown, each by the first cell of its rows."""
    found = []
    for part in text.split("\n\n"):
        head, _, *rows = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in part.splitlines())
        found.append({row[0]: row[1:] for row in (head, *rows)})
    return found


def quality(instance: dg.DagsterInstance, source: str) -> str:
    wanted = dg.AssetRecordsFilter(dg.AssetKey("shards"), asset_partitions=[source])
    [record] = instance.fetch_materializations(wanted, limit=1).records
    assert record.asset_materialization is not None
    value = record.asset_materialization.metadata[QUALITY].value
    assert isinstance(value, str)
    return value


def stored(store: Store, source: str) -> dict[str, StoredClip]:
    sidecars = [read_sidecar(tar) for tar in (store.shards / source).glob("*.tar")]
    return {clip.key: clip for sidecar in sidecars if sidecar for clip in sidecar.members}


def test_quality_and_size_are_those_of_what_is_stored(undisturbed: Whole) -> None:
    config, store = undisturbed.config, undisturbed.store
    for source in config.sources:
        with undisturbed.instance() as instance:
            [table] = tables(quality(instance, source.name))
        assert table[""] == [config.rendition]
        shown = {name: float(cell.replace(",", "")) for name, [cell] in list(table.items())[1:]}
        clips = stored(store, source.name)
        encoded = sorted(clip for clip in clips if clips[clip].encoded)
        assert (shown["clips"], shown["encoded"]) == (len(clips), len(encoded))
        assert shown["stored untouched"] == len(clips) - len(encoded)
        assert shown["stored, MB"] == pytest.approx(sum(clip.size for clip in clips.values()) / 1e6, abs=5e-4)
        files = {row["clip_id"]: media_file(source.media_root, row) for row in store.rows("files", source.name)}
        if all(file.frame_rate is None and not file.is_interval for clip, file in files.items() if clip in clips):
            size = 0
            for clip in clips:
                with open_bytes(files[clip]) as file:
                    size += len(file.read())
            assert shown["source, MB"] == pytest.approx(size / 1e6, abs=5e-4)
            assert shown["stored / source"] == pytest.approx(sum(c.size for c in clips.values()) / size, abs=5e-4)
        # Encoded once more, the clips drawn have the quality that is shown.
        drawn = encoded[: stored_quality.CLIPS]
        media = {row["clip_id"]: row for row in store.rows("media", source.name)}
        again = []
        for clip in drawn:
            data = encode(files[clip], config.rendition, source.stride, media[clip]["fps"]).data
            again.append(picture_quality(files[clip], config.rendition, source.stride, data, stored_quality.FRAMES))
        assert shown["clips compared"] == len(again)
        assert shown["frames compared"] == sum(min(media[clip]["frames"], stored_quality.FRAMES) for clip in drawn)
        assert shown["PSNR, dB: mean"] == pytest.approx(sum(q.psnr for q in again) / len(again), abs=0.051)
        assert shown["SSIM: least"] == pytest.approx(min(q.least_ssim for q in again), abs=5.1e-5)
        assert 25 < shown["PSNR, dB: least"] <= shown["PSNR, dB: mean"] < 60
        assert 0.8 < shown["SSIM: least"] <= shown["SSIM: mean"] < 1


def test_it_is_measured_when_something_is_new_and_shown_again_else(
    undisturbed: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    shutil.copytree(undisturbed.store.root, root, ignore=shutil.ignore_patterns("runs", "*.duckdb"))
    store, config = Store(root), replace(undisturbed.config, data_root=root, workers=1)
    source = config.sources[0]
    first, second, *_ = sorted(clip for clip, at in stored(store, source.name).items() if at.encoded)
    measured: list[list[str]] = []
    of_shards = stored_quality.of_shards

    def counted(store: Store, config: Config, sources: Sequence[Source]) -> dict[str, dg.MarkdownMetadataValue]:
        measured.append([source.name for source in sources])
        return of_shards(store, config, sources)

    monkeypatch.setattr(stored_quality, "of_shards", counted)
    texts = []
    with dg.DagsterInstance.ephemeral() as instance:
        for taken_down in (None, None, first):
            if taken_down:
                row = {"clip_id": first, "reason": "asked to", "who": "me", "taken_at": datetime.now(UTC)}
                store.write("takedowns", [row])
                _damage(store, source.name, second)
            assets = data_assets(config)
            assert dg.materialize(assets, selection=["shards"], partition_key=source.name, instance=instance).success
            texts.append(quality(instance, source.name))
    assert measured == [[source.name], [source.name]] and texts[0] == texts[1]
    [before], [after, failed] = tables(texts[0]), tables(texts[2])
    # The clip that was taken down is counted no more, and of the damaged one it is said what is wrong.
    assert int(after["clips"][0]) == int(before["clips"][0]) - 1
    assert list(failed)[1:] == [second] and "SHA-256 differs" in failed[second][1]
    assert first not in texts[2] and float(after["PSNR, dB: mean"][0]) > 25


def _damage(store: Store, source: str, clip: str) -> None:
    [row] = [row for row in store.rows("samples", source) if row["clip_id"] == clip]
    with (store.shards / source / f"{row['shard']}.tar").open("r+b") as tar:
        tar.seek(row["offset"] + 100)
        tar.write(bytes(50))
