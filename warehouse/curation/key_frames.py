"""Key frames: the calm ones of a clip, a few a second, which is what copies are searched by; of a short clip all.

A frame is a key frame if less moves around it than around the frames beside it. So a copy has the same key frames
wherever it begins, and they are those that change least if it is sampled beside the original's grid.
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from warehouse.curation.hash_bits import distance
from warehouse.curation.hash_rows import HashRows, clip_ids, read_hash_rows

REACH = np.array([1, 1, 3, 3])
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
        clip: number of each frame's clip in ``ids``, int32 (n,), ascending.
        variant: place in ``VARIANTS``, int8 (n,).
        hashes: uint64 (n, 4).
    """

    ids: np.ndarray
    checksum: np.ndarray
    clip: np.ndarray
    variant: np.ndarray
    hashes: np.ndarray


def key_frames(hash_file: Path, fingerprint: str, memory: Path) -> KeyFrames:
    """Key frames of a part of ``frame_hashes``; kept in ``memory`` until ``fingerprint`` or the rule differs.

    Args:
        hash_file: Parquet file of the part.
        fingerprint: of the content of ``hash_file``.
        memory: where they are kept (NPZ).
    """
    made_from = f"{fingerprint} {REACH.tolist()} {SHORT}"
    if memory.exists():
        with np.load(memory) as known:
            if str(known["fingerprint"]) == made_from:
                return KeyFrames(*(known[field.name] for field in fields(KeyFrames)))
    found = _find(hash_file)
    arrays = {field.name: getattr(found, field.name) for field in fields(KeyFrames)}
    save_arrays(memory, {"fingerprint": np.array(made_from)} | arrays)
    return found


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an NPZ file through a temporary file in the same folder and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    temporary.replace(path)


def _find(hash_file: Path) -> KeyFrames:
    ids = clip_ids(hash_file)
    checksum = np.zeros(len(ids), np.uint64)
    clips, variants, hashes = [np.empty(0, np.int32)], [np.empty(0, np.int8)], [np.empty((0, 4), np.uint64)]
    for rows in read_hash_rows(hash_file, ids):
        np.add.at(checksum, rows.clip, _mixed(rows))
        chosen = is_key_frame(rows)
        clips.append(rows.clip[chosen])
        variants.append(rows.variant[chosen])
        hashes.append(rows.hashes[chosen])
    return KeyFrames(ids, checksum, np.concatenate(clips), np.concatenate(variants), np.concatenate(hashes))


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
