"""What ``benchmarks.loader_scaling`` loads: shards of real clips, and snapshots of any number of clips in them."""

import hashlib
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import av
import pyarrow as pa

from warehouse.catalog.sample import Sample
from warehouse.connections import open_duckdb
from warehouse.corpus.build import build
from warehouse.curation.probe import probe_and_hash
from warehouse.media_file import MediaFile
from warehouse.schema import BY_NAME
from warehouse.shards.encoding import encode
from warehouse.shards.tar_file import writing
from warehouse.store import Store

SETS = ("asl_words/asl_gestures/*.mkv", "ut_interaction/**/*.avi")
ENCODED, SHARDS, COPIES = 16, 8, 2
"""Clips that are encoded, shards, and how often each of these clips is in each shard."""
STRIDE, CLIPS_A_SHARD, SOURCES = 4, 440, 6
_CORPUS_CLIPS, _CORPUS_SEED = 64, 2


def make_shards(videos: Path, root: Path) -> list[Sample]:
    """Shards in the rendition ``np256`` under a data root: of real clips if ``videos`` has some, else rendered ones."""
    paths = sorted({path for pattern in SETS for path in videos.glob(pattern)})
    if not paths:
        build(root / "corpus", _CORPUS_CLIPS, _CORPUS_SEED)
        paths = sorted(path for path in (root / "corpus").rglob("*") if path.suffix in (".mp4", ".webm"))
    step = max(1, len(paths) // ENCODED)
    spread = (path for first in range(step) for path in paths[first::step])
    clips = list(islice((data for path in spread if (data := _encoded(path))), ENCODED))
    samples = []
    for number in range(SHARDS):
        path = root.absolute() / "shards" / f"real-{number}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as tar:
            for place, data in enumerate(clips * COPIES):
                clip_id = f"{number * len(clips) * COPIES + place:032x}"
                samples.append(_sample(clip_id, path, tar.add(f"{clip_id}.mp4", data).offset, data))
            tar.finish([sample.sha256 for sample in samples if sample.shard == path])
    return samples


def _encoded(path: Path) -> bytes | None:
    """The clip in the rendition, if it can be used: an embedded corpus has broken files, too."""
    media = probe_and_hash(MediaFile(str(path))).media
    if media["status"] != "ok":
        return None
    return encode(MediaFile(str(path)), "np256", STRIDE, media["fps"]).data


def _sample(clip_id: str, shard: Path, offset: int, data: bytes) -> Sample:
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        return Sample(
            clip_id, "real", "train", 0, 1.0, STRIDE, shard, offset, len(data), hashlib.sha256(data).hexdigest(),
            "h264", float(stream.average_rate or 25), stream.frames, stream.width, stream.height,
        )  # fmt: skip


def make_snapshot(root: Path, samples: Sequence[Sample], clips: int) -> str:
    """The tables of a snapshot of so many clips of six sources, in shards of 440: each is one of ``samples``.

    So every clip can be read, while the tables are as large as those of a collection of this size.
    """
    store, snapshot_id = Store(root), f"clips{clips}"
    names = ("offset", "size", "sha256", "codec", "fps", "frames", "width", "height")
    real = pa.table({
        "number": range(len(samples)), "path": [str(sample.shard.relative_to(root.absolute())) for sample in samples],
        **{name: [getattr(sample, name) for sample in samples] for name in names},
    })  # fmt: skip
    with open_duckdb() as connection:
        connection.register("real", real)
        a_shard = len(samples) // SHARDS
        connection.execute(
            f"CREATE TEMP TABLE made AS SELECT md5(i::VARCHAR) AS clip_id, 'source_' || s AS source, "
            f"printf('source_%d-np256-%05d', s, i // {CLIPS_A_SHARD}) AS shard, real.* "
            f"FROM (SELECT i, i * {SOURCES} // {clips} AS s FROM range({clips}) r(i)) "
            f"JOIN real ON number = (i // {CLIPS_A_SHARD} + s) % {SHARDS} * {a_shard} + i % {a_shard}"
        )
        queries = {
            "snapshot_clips": f"SELECT '{snapshot_id}' AS snapshot_id, "
            "row_number() OVER (ORDER BY source, clip_id) - 1 AS position, clip_id, source, 'train' AS split, "
            "NULL AS class_id, NULL AS class_name, 1.0 AS weight, "
            f"'np256' AS rendition, {STRIDE} AS stride FROM made ORDER BY source, clip_id",
            "samples": 'SELECT clip_id, source, shard, "offset", size, \'np256\' AS rendition, sha256, codec, width, '
            "height, fps, frames FROM made",
            "shards": "SELECT shard, any_value(source) AS source, 'np256' AS rendition, any_value(path) AS path, "
            "count(*)::INTEGER AS samples, 1 AS bytes, '' AS sha256 FROM made GROUP BY shard",
        }
        for table, query in queries.items():
            columns = ", ".join(f'"{name}"' for name in BY_NAME[table].schema.names)
            part = snapshot_id if table == "snapshot_clips" else "made"
            store.write(table, connection.execute(f"SELECT {columns} FROM ({query})").to_arrow_reader(), part)
    row = {"snapshot_id": snapshot_id, "collection": "made", "created": datetime.now(UTC), "clips": clips,
           "taxonomy": None, "classes": None}  # fmt: skip
    store.write("snapshots", [row], snapshot_id)
    return snapshot_id
