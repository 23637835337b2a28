"""Key frames: the calm ones of a clip, a few a second, which is what copies are searched by; of a short clip all.

A frame is a key frame if less moves around it than around the frames beside it. So a copy has the same key frames
wherever it begins, and they are those that change least if it is sampled beside the original's grid.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warehouse.curation.hash_bits import distance
from warehouse.curation.hash_rows import HashRows, clip_ids, read_hash_rows

REACH = np.array([1, 1, 1, 3, 3])
"""By place in ``VARIANTS``: frames to either side that a key frame is calmer than. There are two or three a second of
what is searched in, so that fast motion is found too, and one or two of what it is searched with besides."""

SHORT = 40
"""Frames of a clip (five seconds) up to which all are searched in: that is no more than a longer clip has in calm ones,
and a short copy of fast motion has too few of those."""

_MIXERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)


@dataclass(frozen=True)
class KeyFrames:
    """Key frames of one source's clips.

    Attributes:
        ids: the clips, ascending, bytes (clips,).
        checksum: of all rows of each clip: another value means other hashes, uint64 (clips,).
        file: where the frames are.
        blocks: number of blocks that they are in.
    """

    ids: np.ndarray
    checksum: np.ndarray
    file: Path
    blocks: int

    def places(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each block the number of each frame's clip in ``ids``, ascending, and its place in ``VARIANTS``, (n,)."""
        with np.load(self.file) as known:
            for block in range(self.blocks):
                yield known[f"clip_{block}"], known[f"variant_{block}"]

    def hashes(self) -> Iterator[np.ndarray]:
        """Of each block the hashes, uint64 (n, 4)."""
        with np.load(self.file) as known:
            for block in range(self.blocks):
                yield known[f"hashes_{block}"]


def key_frames(hash_file: Path, fingerprint: str, memory: Path) -> KeyFrames:
    """Key frames of a part of ``frame_hashes``; kept in ``memory`` until ``fingerprint`` or the rule differs.

    Args:
        hash_file: Parquet file of the part.
        fingerprint: of the content of ``hash_file``.
        memory: where they are kept (NPZ).
    """
    made_from = f"{fingerprint} {REACH.tolist()} {SHORT} in blocks"
    if not _is_made_from(memory, made_from):
        save_arrays(memory, {"fingerprint": np.array(made_from)} | _find(hash_file))
    with np.load(memory) as known:
        return KeyFrames(known["ids"], known["checksum"], memory, int(known["blocks"]))


def _is_made_from(memory: Path, made_from: str) -> bool:
    if not memory.exists():
        return False
    with np.load(memory) as known:
        return str(known["fingerprint"]) == made_from


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an NPZ file through a temporary file in the same folder and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    temporary.replace(path)


def _find(hash_file: Path) -> dict[str, np.ndarray]:
    """The arrays that are kept; a block for each that is read, none of them joined."""
    ids = clip_ids(hash_file)
    checksum = np.zeros(len(ids), np.uint64)
    arrays, block = {}, -1
    for block, rows in enumerate(read_hash_rows(hash_file, ids)):
        np.add.at(checksum, rows.clip, _mixed(rows))
        chosen = is_key_frame(rows)
        for name, values in (("clip", rows.clip), ("variant", rows.variant), ("hashes", rows.hashes)):
            arrays[f"{name}_{block}"] = values[chosen]
    return {"ids": ids, "checksum": checksum, "blocks": np.array(block + 1), **arrays}


def is_key_frame(rows: HashRows) -> np.ndarray:
    """Which rows are key frames, bool (n,). Each variant of a clip has at least one."""
    count = len(rows)
    run = np.cumsum(np.r_[False, (rows.clip[1:] != rows.clip[:-1]) | (rows.variant[1:] != rows.variant[:-1])])
    step = distance(rows.hashes[1:], rows.hashes[:-1])
    within = run[1:] == run[:-1]
    before, after = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    before[1:][within] = step[within]
    after[:-1][within] = step[within]
    # At either end what moves on the other side counts twice.
    moves = np.where(before < 0, after, before) + np.where(after < 0, before, after)
    calm, reaches = np.ones(count, bool), REACH[rows.variant]
    for reach in range(1, min(int(REACH.max()), count - 1) + 1):
        same = run[reach:] == run[:-reach]
        calm[:-reach] &= ~same | (reaches[:-reach] < reach) | (moves[:-reach] <= moves[reach:])
        calm[reach:] &= ~same | (reaches[reach:] < reach) | (moves[reach:] < moves[:-reach])
    return calm | ((reaches == REACH.min()) & (np.bincount(run)[run] <= SHORT))


def _mixed(rows: HashRows) -> np.ndarray:
    """A number for each row, uint64 (n,), of which sums tell sets of rows apart."""
    mixed = rows.t_ms.astype(np.uint64) * np.uint64(4) + rows.variant.astype(np.uint64)
    for word, mixer in enumerate(_MIXERS):
        mixed = (mixed ^ (mixed >> np.uint64(29)) ^ rows.hashes[:, word]) * mixer
    return mixed ^ (mixed >> np.uint64(32))
