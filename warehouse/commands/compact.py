"""``reelhouse compact``: take the bytes of clips that were taken down out of the shards, and prove it."""

import argparse
import time

from warehouse.commands.printing import counted, print_table
from warehouse.config import Config
from warehouse.store import Store
from warehouse.takedown.proof import ContentLeftError, prove
from warehouse.takedown.takedowns import taken_down


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compact",
        help="take the bytes of clips that were taken down out of the shards, and prove it",
        description="Write the shards that hold clips taken down anew without them (the bytes of the others are "
        "copied; all other shards stay untouched), take their rows out of `features`, remove pages and pictures that "
        "show them, and then search every file under the data root for what is left. Ends with exit code 1 if "
        "anything is. It may be killed and run again, and run at any time to prove it anew; while a job writes shards, "
        "it waits. Frame hashes and what was probed are facts, not content, and stay, as do the videos in the sources' "
        "own folders.",
    )
    parser.set_defaults(run=run)


def run(store: Store, config: Config, options: argparse.Namespace) -> None:
    """Compact, search, and print what was searched and found.

    Raises:
        ShardError: a shard cannot be rewritten; names it.
        ContentLeftError: something is left; names each file, and what to do.
    """
    # Imported here: it loads the decoders, which no other command needs.
    from warehouse.takedown.compact import compact, remove_pictures

    clips = taken_down(store)
    if not clips:
        print("No clip has been taken down: nothing to do.")
        return
    done = compact(store)
    for verb, paths in (("written anew", done.rewritten), ("removed, no clip is left in it", done.emptied)):
        for path in paths:
            print(f"{path}: {verb}")
    for path in done.features:
        print(f"{path}: features of clips taken down removed")
    if done.rewritten or done.emptied:
        print("Index files that were exported for DALI and name these shards are out of date: export them again.")
    began = time.monotonic()
    proof = prove(store, clips, config.workers)
    removed = remove_pictures(store, sorted({trace.path for trace in proof.left}))
    for picture in removed:
        print(f"{picture.relative_to(store.root)}: removed, it showed a clip that was taken down")
    proof = proof.without(removed)
    print_table(
        ("searched", "files", "MB"),
        [(place, files, round(size / 1e6, 1)) for place, (files, size) in sorted(proof.searched.items())],
    )
    print(f"searched for the bytes and ids of {counted(len(clips), 'clip')} in {time.monotonic() - began:.1f} s")
    if proof.without_prints:
        print(
            f"{len(proof.without_prints)} of them by id alone: in no shard when they were taken down, or without a "
            "stretch of bytes that is theirs alone"
        )
    if proof.facts:
        places = sorted({str(path.relative_to(store.root).parent) for path in proof.facts})
        print(f"named as facts, which stay, by {counted(len(proof.facts), 'file')} in: {', '.join(places)}")
    if not proof.holds:
        raise ContentLeftError("\n".join(proof.complaints(store)))
    print("nothing of them is left")
