"""``reelhouse takedown``: take clips out of everything, for good."""

import argparse
import getpass
import shlex
from pathlib import Path

from warehouse.catalog.build import build_catalog, connect
from warehouse.catalog.clip_names import resolve
from warehouse.catalog.history import History, history
from warehouse.commands.lineage import checkpoints_text, minute, runs_text, video_name
from warehouse.commands.printing import counted
from warehouse.config import Config
from warehouse.store import Store
from warehouse.takedown.takedowns import NoClipsError, take_down

SHOWN = 20
"""Clips whose history is printed."""
_COPIES = """
    SELECT DISTINCT other
    FROM (SELECT clip_a AS clip_id, clip_b AS other FROM duplicate_edges
          UNION ALL SELECT clip_b, clip_a FROM duplicate_edges)
    WHERE clip_id IN (SELECT unnest(?)) AND other NOT IN (SELECT clip_id FROM takedowns) ORDER BY other
"""
_SEEN = "SELECT DISTINCT checkpoint FROM lineage WHERE clip_id IN (SELECT unnest(?)) ORDER BY checkpoint"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "takedown",
        help="take clips out of everything, for good",
        description="Take clips out of every collection at once, for good. From now on whatever opens a snapshot "
        "leaves them out, and they are not handed out any more; the next run drops them from `decisions` with the "
        "reason `taken_down`. Prints what has seen them already, and their copies, which stay unless they are named "
        "too. The bytes stay in the shards until `reelhouse compact`. There is no undo: a takedown is a promise to "
        "somebody. If any of the clips is not known, none is taken.",
    )
    parser.add_argument("clips", nargs="*", metavar="CLIP", help="clip id, its beginning, or namespace:native_id")
    parser.add_argument("--from", dest="file", type=Path, metavar="FILE", help="also those in this file, one a line")
    parser.add_argument("--reason", required=True, help="why; kept with each clip")
    parser.set_defaults(run=run)


def run(store: Store, config: Config, options: argparse.Namespace) -> None:
    """Take the clips down, and print what has seen them.

    Raises:
        NoClipsError: no clip is named, the file cannot be read, or there is no reason.
        ClipNameError: a clip is not known; none has been taken down.
    """
    names = [*options.clips, *(_lines(options.file) if options.file else ())]
    if not names:
        raise NoClipsError("no clip is named. Give clip ids, or a file of them with --from FILE.")
    if not options.reason.strip():
        raise NoClipsError("the reason is empty. Say why with --reason: it is all that will be known later.")
    with connect(store) as connection:
        clips = list(dict.fromkeys(resolve(connection, names)))
    new = set(take_down(store, clips, options.reason.strip(), getpass.getuser()))
    # For the views to say so now; the takedown itself is the row of its table.
    build_catalog(store)
    with connect(store) as connection:
        for clip in clips[:SHOWN]:
            _print(history(connection, clip), new)
        copies, checkpoints = ([row[0] for row in connection.execute(q, [clips]).fetchall()] for q in (_COPIES, _SEEN))
    if len(clips) > SHOWN:
        print(f"… and {len(clips) - SHOWN} more clips: `reelhouse lineage CLIP` tells of each")
        print("\n".join(["checkpoints that have seen any of them, which stay:", *(f"  {c}" for c in checkpoints)]))
    print(f"\n{len(new)} of {counted(len(clips), 'clip')} taken down now; {len(clips) - len(new)} had been before.")
    if copies:
        print(
            f"{len(copies)} {'copy' if len(copies) == 1 else 'copies'} of them can still be used, and the next run may "
            "let one in that was out as a copy. To take them too:\n"
            f"  reelhouse takedown {' '.join(copies)} --reason {shlex.quote(options.reason.strip())}"
        )
    print("`reelhouse compact` takes their encoded bytes out of the shards, and proves it.")


def _print(found: History, new: set[str]) -> None:
    clip, taken = found["clip"], found["taken_down"]
    before = "" if clip["clip_id"] in new else f" (had been: {taken['who']}, {minute(taken['taken_at'])})"
    print(f"{clip['clip_id']}  {video_name(clip)}: taken down{before}")
    lines = {
        "in snapshots, as a tombstone": [f"{row['snapshot_id']} of {row['collection']}" for row in found["snapshots"]],
        "trained on by": runs_text(found["trained_by"]),
        "evaluated by": runs_text(found["evaluated_by"]),
        "features extracted by, which `reelhouse compact` removes": runs_text(found["extracted_by"]),
        "seen by checkpoints, which stay": checkpoints_text(found["checkpoints"]),
        "runs that are under way and go on with it until they are stopped": [
            run["run_id"]
            for run in (*found["trained_by"], *found["evaluated_by"], *found["extracted_by"])
            if run["status"] == "running"
        ],
        "the source's file, which Reelhouse does not touch": [
            f"{row['media_root']}/{row['path']}" for row in found["files"] if row["status"] != "missing"
        ],
        "copies": [f"{row['clip_id']}  {row['video']} ({', '.join(row['kinds'])})" for row in found["copies"]],
    }
    for title, each in lines.items():
        if each:
            print("\n".join([f"  {title}:", *(f"    {line}" for line in each)]))


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NoClipsError(f"{path}: cannot be read as a list of clips ({error}). It has one clip a line.") from error
    return [name for line in text.splitlines() if (name := line.strip())]
