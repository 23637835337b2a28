"""Every table of the warehouse: what a row is, its columns, its key.

This module is the single description of the data. The Parquet files are written with these schemas
(:mod:`warehouse.store`), the DuckDB catalog is built from them (:mod:`warehouse.catalog.build`) and
``python -m warehouse tables`` prints them.
"""

from dataclasses import dataclass

import pyarrow as pa

TEXT, INT, LONG, REAL, FLAG, HASH = pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.bool_(), pa.uint64()
TIME = pa.timestamp("us", tz="UTC")
VECTOR = pa.list_(pa.float32())


@dataclass(frozen=True)
class Column:
    """A column: name, Arrow type, meaning, and whether it may be NULL."""

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A table: one Parquet file for each part (a source, a snapshot, a collection or a run), or one file in all.

    ``part`` names what a file holds: ``"source"``, ``"snapshot"``, ``"collection"``, ``"run"`` or ``None`` (one file).
    ``key`` is unique within the table of the catalog.
    """

    name: str
    row: str
    part: str | None
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the table's Parquet files."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])


CLIP = Column("clip_id", TEXT, "hex blake2b-128 of (namespace, native id, start_ms, end_ms): the clip in the world")
SOURCE = Column("source", TEXT, "name of the source in sources.toml")
SPLIT = Column("split", TEXT, "train, val or test")
RENDITION = Column("rendition", TEXT, "the encoding contract of the stored bytes (`original`: untouched)")
SHARD = Column("shard", TEXT, "file name of the tar without its suffix")
RUN = Column("run_id", TEXT, "stage and hash of configuration, snapshot and parent checkpoint")
SNAPSHOT = Column("snapshot_id", TEXT, "hash of the class list and of the rows of snapshot_clips in their order")

TABLES: tuple[Table, ...] = (
    Table("sources", "a source of sources.toml", None, ("source",), (
        SOURCE,
        Column("kind", TEXT, "annotation layout (docs/sources.md lists them)"),
        Column("namespace", TEXT, "where native ids are unique: `youtube` is shared by all that comes from YouTube"),
        Column("media_root", TEXT, "folder that file paths are relative to"),
        Column("stride", INT, "frames from one sampled frame to the next"),
        Column("licence", TEXT, "licence as stated in sources.toml"),
        Column("priority", INT, "order in sources.toml: of equal copies the one with the lowest is kept"),
    )),
    Table("clips", "an interval of a video in the world, once, whoever lists it", "source", ("clip_id",), (
        CLIP,
        Column("namespace", TEXT, "where native_id is unique"),
        Column("native_id", TEXT, "the id that the data set gives the video (YouTube id, number, relative path)"),
        Column("start_ms", LONG, "start in the original video; NULL: the whole video", nullable=True),
        Column("end_ms", LONG, "end in the original video; NULL: the whole video", nullable=True),
    )),
    Table("memberships", "one source's annotation of a clip", "source", ("clip_id", "source", "split"), (
        CLIP, SOURCE, SPLIT,
        Column("label", TEXT, "class name as the source writes it; NULL: unlabelled", nullable=True),
        Column("annotation_file", TEXT, "file that lists the clip; the media folder where there is none"),
        Column("annotation_row", INT, "1-based line (CSV) or item (JSON) in that file"),
        Column("licence", TEXT, "licence of the source"),
    )),
    Table("rejects", "an annotation row that cannot become a clip", "source", ("source", "file", "row"), (
        SOURCE,
        Column("file", TEXT, "annotation file, tar archive, or the media folder"),
        Column("row", INT, "1-based line, item, or member of a tar"),
        Column("split", TEXT, "split that the file is about; NULL: it is about several, or none", nullable=True),
        Column("error_class", TEXT, "malformed_row, bad_time, bad_path, duplicate_row or unknown_split"),
        Column("detail", TEXT, "what was read and what was expected"),
    )),
    Table("files", "a media file that holds a clip", "source", ("clip_id", "source"), (
        CLIP, SOURCE,
        Column("path", TEXT, "relative to the source's media_root: a video, a tar archive or a folder of frames"),
        Column("member", TEXT, "name of the video in the tar archive", nullable=True),
        Column("member_offset", LONG, "first byte of the video in the tar archive", nullable=True),
        Column("from_ms", LONG, "where the clip begins in the video; NULL: at its start", nullable=True),
        Column("to_ms", LONG, "where the clip ends in the video; NULL: at its end", nullable=True),
        Column("frame_rate", REAL, "frames per second of a folder of frames, which does not say", nullable=True),
        Column("first_frame", INT, "number in its first frame's name; NULL: the first of the folder", nullable=True),
        Column("frame_count", INT, "frames of the folder that are the clip; NULL: all to the last", nullable=True),
        Column("bytes", LONG, "size of the video, the tar's member or the clip's frames; NULL: missing", nullable=True),
        Column("modified_ns", LONG, "modification time; NULL: the file is missing", nullable=True),
    )),
    Table("media", "what probing found in a file", "source", ("clip_id", "source"), (
        CLIP, SOURCE,
        Column("status", TEXT, "ok, missing or quarantined"),
        Column("error_class", TEXT, "why it is quarantined or missing (docs/error_classes.md)", nullable=True),
        Column("detail", TEXT, "the decoder's own words", nullable=True),
        Column("bytes", LONG, "size when it was probed", nullable=True),
        Column("listed", TEXT, "fingerprint of its row of `files` when it was probed; another now: it is probed again",
               nullable=True),
        Column("sha256", TEXT, "of the file, the member or all images; NULL: an interval of a movie, which is not read "
                               "whole", nullable=True),
        Column("container", TEXT, "short name of the container format", nullable=True),
        Column("codec", TEXT, "video codec", nullable=True),
        Column("pixel_format", TEXT, "pixel format", nullable=True),
        Column("width", INT, "pixels, as shown (after rotation)", nullable=True),
        Column("height", INT, "pixels, as shown (after rotation)", nullable=True),
        Column("rotation", INT, "degrees counter-clockwise (0, 90, 180 or 270) that a player turns the coded picture",
               nullable=True),
        Column("size_changes", FLAG, "whether the size of the picture changes inside the stream", nullable=True),
        Column("fps", REAL, "average frames per second", nullable=True),
        Column("variable_rate", FLAG, "whether a step from frame to frame differs from the median by more than half",
               nullable=True),
        Column("frames", INT, "frames decoded", nullable=True),
        Column("declared_frames", LONG, "frames of the file or folder, as its header or annotation says",
               nullable=True),
        Column("duration_ms", LONG, "from the first to the end of the last frame", nullable=True),
        Column("has_audio", FLAG, "whether there is an audio stream", nullable=True),
        Column("video_bytes", LONG, "size of the clip's video packets", nullable=True),
        Column("packet_hash", TEXT, "hex blake2b-128 of these packets: equal for remuxed copies", nullable=True),
        Column("motion", REAL, "mean difference of successive sampled frames, in grey levels (0 to 1)", nullable=True),
        Column("brightness", REAL, "mean grey level of the sampled frames (0 to 1)", nullable=True),
        Column("picture_share", REAL, "share of the frame that is inside black bars (1: no bars)", nullable=True),
    )),
    Table("frame_hashes", "a sampled frame's perceptual hash", "source", ("clip_id", "source", "t_ms", "variant"), (
        CLIP, SOURCE,
        Column("t_ms", LONG, "time of the frame from the clip's first frame"),
        Column("variant", TEXT,
               "`full` frame, `trimmed` of black bars, an `inset`, its `centre` (80 % of a side) or `centre_90`"),
        Column("quality", REAL,
               "spread of grey levels in what is hashed (0 to 1): flat frames match anything and are left out"),
        *(Column(f"h{i}", HASH, f"bits {64 * i} to {64 * i + 63} of the 256-bit DCT hash") for i in range(4)),
    )),
    Table("duplicate_edges", "a verified pair of clips with the same content", None, ("clip_a", "clip_b", "kind"), (
        Column("clip_a", TEXT, "the smaller clip id of the pair"),
        Column("clip_b", TEXT, "the larger clip id of the pair"),
        Column("kind", TEXT, "overlap (same video, by time), bytes, packets, near, contained or mirrored"),
        Column("inliers", INT, "frames that agree at the winning time offset", nullable=True),
        Column("coverage", REAL, "inliers as a share of the frames compared", nullable=True),
        Column("mean_distance", REAL, "mean Hamming distance of the inliers (of 256 bits)", nullable=True),
        Column("offset_ms", LONG, "time in clip_b minus time in clip_a", nullable=True),
    )),
    Table("duplicate_clusters", "a clip that has at least one duplicate", None, ("clip_id",), (
        CLIP,
        Column("cluster_id", TEXT, "smallest clip id of the connected component"),
        Column("canonical_id", TEXT, "the copy to prefer among this clip and those that it has a verified edge to"),
    )),
    Table("labels", "a clip's class in one taxonomy", None, ("clip_id", "taxonomy"), (
        CLIP,
        Column("taxonomy", TEXT, "name of the taxonomy in sources.toml"),
        Column("class_id", INT, "index of the class in `classes`"),
        Column("class_name", TEXT, "name after merging aliases"),
        SOURCE,
    )),
    Table("classes", "a class of a taxonomy", None, ("taxonomy", "class_id"), (
        Column("taxonomy", TEXT, "name of the taxonomy in sources.toml"),
        Column("class_id", INT, "index: order of the taxonomy's class list, or else of the names"),
        Column("class_name", TEXT, "name after merging aliases"),
    )),
    Table("native_classes", "a class as a source names it, and what it is in a taxonomy", None,
          ("taxonomy", "source", "native_id"), (
        Column("taxonomy", TEXT, "name of the taxonomy in sources.toml"),
        SOURCE,
        Column("native_id", INT, "index among the source's own class names, sorted"),
        Column("native_name", TEXT, "name as the source writes it"),
        Column("class_id", INT, "index of the class in `classes`"),
    )),
    Table("collections", "a collection, by the rules that the decisions were taken by", None, ("collection",), (
        Column("collection", TEXT, "name of the collection in sources.toml"),
        Column("splits", pa.list_(TEXT), "splits that it takes"),
        Column("taxonomy", TEXT, "its classes; NULL: unlabelled", nullable=True),
        Column("leakage", TEXT, "rule for a video on both sides of a split: protect or paper (docs/curation.md)"),
    )),
    Table("decisions", "a clip in a collection and split: kept or dropped, and why", None,
          ("collection", "clip_id", "split"), (
        Column("collection", TEXT, "name of the collection in sources.toml"),
        CLIP, SOURCE, SPLIT,
        Column("keep", FLAG, "whether the clip is in the collection"),
        Column("reason", TEXT, "why (docs/curation.md lists them)"),
        Column("other_clip_id", TEXT, "the clip that this one repeats", nullable=True),
        Column("rule_version", INT, "version of the rules that decided"),
    )),
    Table("packing", "a planned place in a shard", "source", ("shard", "position"), (
        SHARD,
        Column("position", INT, "order within the shard"),
        CLIP, SOURCE, RENDITION,
    )),
    Table("shards", "a tar file", "source", ("shard",), (
        SHARD, SOURCE, RENDITION,
        Column("path", TEXT, "relative to the data root"),
        Column("samples", INT, "clips in the tar"),
        Column("bytes", LONG, "size of the tar"),
        Column("sha256", TEXT, "of the tar"),
    )),
    Table("samples", "a clip's place in a shard", "source", ("clip_id", "rendition"), (
        CLIP, SOURCE, SHARD,
        Column("offset", LONG, "first byte of the video in the tar"),
        Column("size", LONG, "bytes of the video"),
        RENDITION,
        Column("sha256", TEXT, "of the video bytes in the tar"),
        Column("codec", TEXT, "as stored"),
        Column("width", INT, "as stored, pixels"),
        Column("height", INT, "as stored, pixels"),
        Column("fps", REAL, "as stored"),
        Column("frames", INT, "as stored"),
    )),
    Table("snapshots", "an immutable membership of a collection", "snapshot", ("snapshot_id",), (
        SNAPSHOT,
        Column("collection", TEXT, "name of the collection that it was first taken of"),
        Column("created", TIME, "when it was first taken"),
        Column("clips", INT, "rows in snapshot_clips"),
        Column("taxonomy", TEXT, "what class_id counts; NULL: unlabelled, or its query names the classes",
               nullable=True),
        Column("classes", pa.list_(TEXT), "class names in the order of class_id", nullable=True),
    )),
    Table("snapshot_clips", "a clip in a snapshot", "snapshot", ("snapshot_id", "position"), (
        SNAPSHOT,
        Column("position", INT, "order: by split, source and clip id"),
        CLIP, SOURCE, SPLIT,
        Column("class_id", INT, "class in the snapshot's taxonomy", nullable=True),
        Column("class_name", TEXT, "name of that class", nullable=True),
        Column("weight", REAL, "relative frequency in training"),
        RENDITION,
        Column("stride", INT, "stored frames from one sampled frame to the next (docs/renditions.md)"),
    )),
    Table("takedowns", "a clip that has been taken down: in no collection, and left out of every snapshot", None,
          ("clip_id",), (
        CLIP,
        Column("reason", TEXT, "why, in the words of who did it"),
        Column("who", TEXT, "login name of who did it"),
        Column("taken_at", TIME, "when"),
    )),
    Table("content_prints", "hashes to find a stretch of the encoded bytes of a clip that was taken down", None,
          ("clip_id", "rendition", "place"), (
        CLIP, RENDITION,
        Column("place", LONG, "first byte of the stretch in the encoded video"),
        Column("rolling", HASH, "polynomial hash of the stretch (warehouse/takedown/prints.py)"),
        Column("digest", TEXT, "hex blake2b-128 of the stretch"),
    )),
    Table("collection_snapshots", "a snapshot taken of a collection: its present one is the last", "collection",
          ("collection", "taken"), (
        Column("collection", TEXT, "name of the collection, in sources.toml or of `reelhouse collection create`"),
        Column("taken", TIME, "when it became the collection's present snapshot"),
        SNAPSHOT,
        Column("sql", TEXT, "the query that selected it; NULL: the rules of sources.toml did", nullable=True),
    )),
    Table("runs", "a training or evaluation run", "run", ("run_id",), (
        RUN,
        Column("stage", TEXT, "pretrained, post_pretrained, finetuned, distilled, evaluation or features"),
        SNAPSHOT,
        Column("parent", TEXT, "checkpoint, or file of weights, that it started from", nullable=True),
        Column("config", TEXT, "configuration as JSON"),
        Column("status", TEXT, "running, finished, cancelled or failed; after a kill running, until it is resumed"),
        Column("started", TIME, "first start"),
        Column("finished", TIME, "end of the last attempt", nullable=True),
        Column("attempts", INT, "starts: above 1 it was resumed"),
        Column("seconds", REAL, "wall time of all attempts", nullable=True),
    )),
    Table("checkpoints", "a saved state of a model", "run", ("checkpoint",), (
        Column("checkpoint", TEXT, "folder, relative to the data root"),
        RUN,
        Column("step", INT, "optimiser steps taken"),
        Column("created", TIME, "when it was saved"),
    )),
    Table("scores", "a figure measured on a snapshot's split", "run", ("run_id", "split", "metric"), (
        RUN,
        Column("checkpoint", TEXT, "checkpoint that was measured"),
        SNAPSHOT, SPLIT,
        Column("metric", TEXT, "top1, top5, chance, loss, ..."),
        Column("value", REAL, "the figure"),
    )),
    Table("features", "what a model makes of a window of a clip, as a vector", "run",
          ("run_id", "clip_id", "split", "start_frame"), (
        RUN,
        Column("checkpoint", TEXT, "checkpoint that it came from"),
        CLIP, SOURCE, SPLIT,
        Column("start_frame", INT, "the window's first frame, in the clip as stored"),
        Column("start_ms", LONG, "time of that frame, from the clip's first"),
        Column("views", INT, "squares along the frame's long side that the vector is the mean of; 1: the middle one"),
        Column("vector", VECTOR, "the mean of the encoder's tokens, normed: as many numbers as the model is wide"),
    )),
)

BY_NAME: dict[str, Table] = {table.name: table for table in TABLES}
