"""A contact sheet: frames of clips of a snapshot, drawn by a seed, each with what it is below."""

import random
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from warehouse.catalog.membership import SnapshotError
from warehouse.catalog.samples import Sample
from warehouse.catalog.snapshots import open_snapshot, snapshot_splits
from warehouse.error_classes import MediaError
from warehouse.media_file import MediaFile
from warehouse.shards.errors import ShardError
from warehouse.shards.reader import member_name
from warehouse.store import Store, replace_file
from warehouse.video import open_video, packet_digest, quarter_turns

WIDTH, HEIGHT = 160, 120
"""Pixels of the box that a frame is fitted into."""
MOMENTS = (1 / 6, 1 / 2, 5 / 6)
"""The frames shown of a clip, as shares of its length."""
COLUMNS = 4
MARGIN, LINE, TEXT = 8, 15, 12
"""Pixels between tiles, from line to line of the words, and of the font."""
BACKGROUND, INK, FAINT = (250, 250, 250), (30, 30, 30), (110, 110, 110)
_FONT = "sans"
KEYWORD = "Reelhouse clips"
"""Of the PNG text chunk that has the ids of the clips shown, one after the other with spaces between."""
_HEADER_BYTES = 8 + 25
"""Of a PNG: the signature and the chunk IHDR, which comes first."""


def draw_sheet(store: Store, snapshot_id: str, count: int, seed: int, path: Path) -> list[Sample]:
    """Write a PNG with frames of ``count`` clips of a snapshot, drawn by ``seed``; returns the clips shown, in order.

    Under each clip stand its source and split, class and id; a clip that cannot be decoded shows why instead of frames.
    The ids are in the file as text too (a tEXt chunk under :data:`KEYWORD`): so ``reelhouse compact`` finds a sheet
    under the data root that shows a clip taken down.

    Raises:
        SnapshotError: the snapshot cannot be opened, or ``count`` is less than 1.
    """
    if count < 1:
        raise SnapshotError("a contact sheet shows 1 clip or more")
    splits = [open_snapshot(store, snapshot_id, split) for split in snapshot_splits(store, snapshot_id)]
    places = [(samples, place) for samples in splits for place in range(len(samples))]
    drawn = random.Random(seed).sample(places, min(count, len(places)))
    shown = sorted((samples[place] for samples, place in drawn), key=lambda s: (s.split, s.source, s.clip_id))
    names = _class_names(store, snapshot_id)
    tiles = [_tile(sample, names) for sample in shown]
    columns = min(COLUMNS, len(tiles))
    blank = np.full_like(tiles[0], BACKGROUND)
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    encoded = cv2.imencode(".png", np.vstack(rows))[1]
    replace_file(path, with_text(encoded.tobytes(), " ".join(sample.clip_id for sample in shown)))
    return shown


def with_text(png: bytes, text: str) -> bytes:
    """The PNG with one chunk of ASCII text more (PNG specification, 11.3.4.3), after its header."""
    chunk = b"tEXt" + f"{KEYWORD}\0{text}".encode("ascii")
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:_HEADER_BYTES] + framed + png[_HEADER_BYTES:]


def _class_names(store: Store, snapshot_id: str) -> dict[int | None, str]:
    [snapshot] = store.rows("snapshots", snapshot_id)
    return {None: "unlabelled", **dict(enumerate(snapshot["classes"] or ()))}


def _tile(sample: Sample, names: dict[int | None, str]) -> np.ndarray:
    """BGR, uint8 (height, width, 3)."""
    width = len(MOMENTS) * WIDTH + 2 * MARGIN
    tile = np.full((HEIGHT + 3 * LINE + 2 * MARGIN, width, 3), BACKGROUND, np.uint8)
    try:
        for place, frame in enumerate(_frames(sample)):
            height, breadth = frame.shape[:2]
            top, left = MARGIN + (HEIGHT - height) // 2, MARGIN + place * WIDTH + (WIDTH - breadth) // 2
            tile[top : top + height, left : left + breadth] = frame
    except (MediaError, ShardError) as error:
        _write(tile, str(error), MARGIN + HEIGHT // 2, INK)
    below = (f"{sample.source} ({sample.split})", names[sample.class_id], sample.clip_id)
    for line, words in enumerate(below, 1):
        _write(tile, words, MARGIN + HEIGHT + line * LINE, FAINT if line == len(below) else INK)
    return tile


def _write(tile: np.ndarray, words: str, baseline: int, colour: Sequence[int]) -> None:
    # OpenCV's own vector font has no letters beyond ASCII; this one it brings along has.
    cv2.putText(tile, words, (MARGIN, baseline), colour, cv2.FontFace(_FONT), TEXT)


def _frames(sample: Sample) -> list[np.ndarray]:
    """The clip's frames at MOMENTS, BGR, fitted into WIDTH × HEIGHT."""
    wanted = [int(share * sample.frames) for share in MOMENTS]
    found: list[np.ndarray] = []
    decoded = 0
    with open_video(MediaFile(str(sample.shard), member_name(sample), member_offset=sample.offset)) as video:
        for frame in video.frames(packet_digest()):
            if decoded in wanted:
                turned = np.rot90(frame.to_ndarray(format="bgr24"), quarter_turns(frame))
                scale = min(WIDTH / turned.shape[1], HEIGHT / turned.shape[0])
                size = (max(1, round(turned.shape[1] * scale)), max(1, round(turned.shape[0] * scale)))
                fitted = cv2.resize(np.ascontiguousarray(turned), size, interpolation=cv2.INTER_AREA)
                found += [fitted] * wanted.count(decoded)
            decoded += 1
            if len(found) == len(wanted):
                break
    if len(found) < len(wanted):
        raise MediaError("truncated", f"{decoded} of {sample.frames} frames can be decoded")
    return found
