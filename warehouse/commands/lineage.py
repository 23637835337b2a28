"""``reelhouse lineage``: where a clip came from, and what has become of it."""

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from warehouse.catalog.build import connect
from warehouse.catalog.clip_names import resolve
from warehouse.catalog.history import History, history
from warehouse.config import Config
from warehouse.store import Store


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "lineage",
        help="where a clip came from, and what has become of it",
        description="What lists a clip, what was found in its file, its copies, the decisions on it with their "
        "reasons, the snapshots that hold it, its places in shards, the runs that trained on or evaluated it, and the "
        "checkpoints that have seen it or descend from one that has.",
    )
    parser.add_argument("clip", metavar="CLIP", help="clip id, the beginning of it, or namespace:native_id")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.set_defaults(run=run)


def run(store: Store, config: Config, options: argparse.Namespace) -> None:
    """Print a clip's history."""
    with connect(store) as connection:
        [clip_id] = resolve(connection, [options.clip])
        found = history(connection, clip_id)
    print(json.dumps(found, default=str, indent=1) if options.json else "\n".join(_text(found)))


def video_name(clip: dict[str, Any]) -> str:
    """``namespace:native_id``, with the interval if it is one. Takes a row of ``clips``."""
    name = f"{clip['namespace']}:{clip['native_id']}"
    return name if clip["start_ms"] is None else f"{name} {clip['start_ms'] / 1000:g} to {clip['end_ms'] / 1000:g} s"


def minute(when: datetime) -> str:
    """A time of the catalog, which gives it in the reader's own time zone, in words."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _text(found: History) -> Iterator[str]:
    clip, taken = found["clip"], found["taken_down"]
    yield f"clip {clip['clip_id']}  {video_name(clip)}"
    if taken:
        yield f"TAKEN DOWN by {taken['who']}, {minute(taken['taken_at'])}: {taken['reason']}"
    yield from _section("listed by", [
        f"{row['source']}, {row['split']}, {'no label' if row['label'] is None else repr(row['label'])}: "
        f"{row['annotation_file']}, row {row['annotation_row']}; licence: {row['licence']}"
        for row in found["listed"]
    ])  # fmt: skip
    yield from _section("files", [_file(row) for row in found["files"]])
    yield from _section("classes", [f"{r['taxonomy']}: {r['class_id']} {r['class_name']}" for r in found["labels"]])
    yield from _section("copies", [
        f"{row['clip_id']}  {row['video']} of {', '.join(row['sources'] or ['no source'])} ({', '.join(row['kinds'])})"
        + (", taken down" if row["taken_down"] else "")
        for row in found["copies"]
    ])  # fmt: skip
    yield from _section("decisions", [
        f"{row['collection']}, {row['split']}: {'in' if row['keep'] else 'out'}, {row['reason']}"
        + (f" {row['other_clip_id']}" if row["other_clip_id"] else "")
        for row in found["decisions"]
    ])  # fmt: skip
    yield from _section("snapshots", [
        f"{row['snapshot_id']} of {row['collection']}, {minute(row['created'])}: {row['split']}, position "
        f"{row['position']}" + (", a tombstone" if taken else "")
        for row in found["snapshots"]
    ])  # fmt: skip
    yield from _section("in shards", [
        f"{row['shard']} ({row['rendition']}): "
        + ("planned, not written" if row["offset"] is None else f"bytes {row['offset']}+{row['size']} of {row['path']}")
        for row in found["stored"]
    ])  # fmt: skip
    yield from _section("trained on by", runs_text(found["trained_by"]))
    yield from _section("evaluated by", runs_text(found["evaluated_by"]))
    yield from _section("features extracted by", runs_text(found["extracted_by"]))
    yield from _section("seen by checkpoints", checkpoints_text(found["checkpoints"]))


def runs_text(runs: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each of ``trained_by``, ``evaluated_by`` or ``extracted_by``."""
    return [
        f"{run['run_id']} on {run['collection']} {run['split']}, {run['status']}, "
        f"started {minute(run['started'])}"
        for run in runs
    ]


def checkpoints_text(checkpoints: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each of ``checkpoints``."""
    return [f"{row['checkpoint']}, by {', '.join(row['seen_in'])}" for row in checkpoints]


def _file(row: dict[str, Any]) -> str:
    member = f" member {row['member']}" if row["member"] else ""
    name = f"{row['source']}: {row['media_root']}/{row['path']}{member}"
    if row["status"] is None:
        return f"{name}: not probed"
    if row["status"] != "ok":
        return f"{name}: {row['status']}, {row['error_class']} ({row['detail']})"
    rate = "" if row["fps"] is None else f" at {row['fps']:g} a second"
    return f"{name}: {row['codec']} {row['width']}×{row['height']}, {row['frames']} frames{rate}"


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield f"\n{title}:" if lines else f"\n{title}: none"
    yield from (f"  {line}" for line in lines)
