"""The made-up clips of the scale benchmark: tables of a data root, with planted skew and copies."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from warehouse.curation.frame_hashes import GRID_MS
from warehouse.curation.hash_bits import MIRROR_WORDS
from warehouse.schema import BY_NAME
from warehouse.store import Store, replace_file

SOURCES = ("first", "second", "third")
FRAMES = 80
"""Ten seconds."""
CHUNK = 4500
COPIED_SHARE, CARD_SHARE, TABLE_SHARE = 0.02, 0.03, 0.02
CARDS, CARD_FRAMES, TAKES, REPEATS = 20, 16, 200, 500
VARIANTS = ("centre", "centre_90", "full")


@dataclass
class Planted:
    """What was made: clips, rows of ``frame_hashes``, and the pairs (clip ids, ascending) of each kind of copy."""

    clips: int
    rows: int = 0
    pairs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def make_up(work: Path, clips: int) -> Planted:
    """Write a configuration and the tables that the search and the decisions read, for ``clips`` clips."""
    replace_file(work / "sources.toml", _toml().encode())
    store, planted = Store(work / "data"), Planted(clips)
    share = -(-clips // len(SOURCES))
    with tqdm(desc="make up", total=clips, unit="clip") as bar:
        for place, source in enumerate(SOURCES):
            numbers = range(place * share, min(clips, (place + 1) * share))
            _write_tables(store, source, numbers)
            path = store.path("frame_hashes", source)
            path.parent.mkdir(parents=True, exist_ok=True)
            schema = BY_NAME["frame_hashes"].schema
            with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as file:
                for start in range(numbers.start, numbers.stop, CHUNK):
                    some = np.arange(start, min(start + CHUNK, numbers.stop))
                    chunk = _Chunk(some, clips)
                    rows = chunk.table(source)
                    file.write_table(rows)
                    planted.rows += rows.num_rows
                    for kind, pairs in chunk.pairs.items():
                        planted.pairs.setdefault(kind, []).extend(pairs)
                    bar.update(len(some))
    return planted


def clip_id(number: int) -> str:
    """Ids ascend with the numbers."""
    return f"{number:032x}"


class _Chunk:
    """Hashes of some clips, uint64 (clips, FRAMES, 4), copies of one another among them."""

    def __init__(self, numbers: np.ndarray, clips: int) -> None:
        self.numbers, self.rng = numbers, np.random.default_rng([7, int(numbers[0])])
        self.length = np.full(len(numbers), FRAMES)
        self.pairs: dict[str, list[tuple[str, str]]] = {}
        self.full = self._walks()
        order = self.rng.permutation(len(numbers))
        count = len(numbers)
        copied, cards, tables = (round(share * count) for share in (COPIED_SHARE, CARD_SHARE, TABLE_SHARE))
        shared = np.random.default_rng(8)
        self._put_cards(order[:cards], shared.integers(0, 2**64, (CARDS, 4), np.uint64))
        scenes = shared.integers(0, 2**64, (max(1, round(clips * TABLE_SHARE / TAKES)), 4), np.uint64)
        self._put_tables(order[cards : cards + tables], scenes)
        repeated = np.flatnonzero(numbers % (clips // REPEATS) == 0)
        self.full[repeated] = _one_clip() ^ self._noise((len(repeated), FRAMES), 6)
        free = np.setdiff1d(order[cards + tables :], repeated, assume_unique=True)
        self._put_copies(free[:copied], free[copied : 2 * copied])

    def _noise(self, shape: tuple[int, ...], halvings: int) -> np.ndarray:
        """Words (*shape, 4) in which each bit is set with a chance of 0.5 to the power of ``halvings``."""
        words = self.rng.integers(0, 2**64, (*shape, 4), np.uint64)
        for _ in range(halvings - 1):
            words &= self.rng.integers(0, 2**64, words.shape, np.uint64)
        return words

    def _walks(self) -> np.ndarray:
        """From frame to frame 4, 8, 16 or 32 bits change, another number every half second."""
        count = len(self.numbers)
        steps = self._noise((count, FRAMES), 3)
        pace = np.repeat(self.rng.integers(0, 4, (count, FRAMES // 4)), 4, axis=1)
        for calmer in (1, 2, 3):
            quiet = pace >= calmer
            steps[quiet] &= self.rng.integers(0, 2**64, (int(quiet.sum()), 4), np.uint64)
        steps[:, 0] = self.rng.integers(0, 2**64, (count, 4), np.uint64)
        return np.bitwise_xor.accumulate(steps, axis=1)

    def _put_cards(self, places: np.ndarray, cards: np.ndarray) -> None:
        """Each upload compresses the card in its own way, and all its frames alike."""
        card = cards[self.rng.integers(0, len(cards), len(places))] ^ self._noise((len(places),), 6)
        self.full[places, :CARD_FRAMES] = card[:, None] ^ self._noise((len(places), CARD_FRAMES), 9)

    def _put_tables(self, places: np.ndarray, scenes: np.ndarray) -> None:
        take = scenes[self.rng.integers(0, len(scenes), len(places))] ^ self._noise((len(places),), 4)
        self.full[places] = take[:, None] ^ self._noise((len(places), FRAMES), 7)

    def _put_copies(self, copies: np.ndarray, originals: np.ndarray) -> None:
        for turn, (copy, original) in enumerate(zip(copies, originals, strict=True)):
            kind = ("as it is", "mirrored", "centre")[turn % 3]
            begin, length = int(self.rng.integers(0, FRAMES // 4)), int(self.rng.integers(FRAMES // 2, 3 * FRAMES // 4))
            frames = self.full[original, begin : begin + length].copy()
            # Between two frames of the original a share of what changes has changed.
            following = self.full[original, begin + 1 : begin + 1 + length]
            frames ^= (frames ^ following) & self._noise((length,), 2)
            if kind == "centre":
                frames = _centre(frames, 1)
            if kind == "mirrored":
                frames ^= MIRROR_WORDS
            self.full[copy, :length] = frames ^ self._noise((length,), 5)
            self.length[copy] = length
            pair = tuple(sorted((clip_id(int(self.numbers[original])), clip_id(int(self.numbers[copy])))))
            self.pairs.setdefault(kind, []).append((pair[0], pair[1]))

    def table(self, source: str) -> pa.Table:
        """Rows of ``frame_hashes``, by clip, variant and time."""
        words = np.stack([_centre(self.full, 1), _centre(self.full, 2), self.full], axis=1)
        there = np.broadcast_to((np.arange(FRAMES) < self.length[:, None])[:, None], words.shape[:3])
        clip, variant, frame = np.nonzero(there)
        hashes = words[clip, variant, frame]
        ids = pa.DictionaryArray.from_arrays(clip.astype(np.int32), [clip_id(int(n)) for n in self.numbers])
        names = pa.DictionaryArray.from_arrays(variant.astype(np.int32), list(VARIANTS))
        columns = [ids.cast(pa.string()), pa.array([source]).take(pa.array(np.zeros(len(clip), np.int64))),
                   frame.astype(np.int64) * GRID_MS, names.cast(pa.string()), np.full(len(clip), 0.3),
                   *(hashes[:, word] for word in range(4))]  # fmt: skip
        return pa.table(columns, schema=BY_NAME["frame_hashes"].schema)


def _one_clip() -> np.ndarray:
    """Hashes of the clip that is copied over and over, uint64 (FRAMES, 4): 8 bits change from frame to frame."""
    rng = np.random.default_rng(9)
    steps = np.bitwise_and.reduce(rng.integers(0, 2**64, (5, FRAMES, 4), np.uint64), axis=0)
    steps[0] = rng.integers(0, 2**64, 4, np.uint64)
    return np.bitwise_xor.accumulate(steps, axis=0)


def _centre(hashes: np.ndarray, turns: int) -> np.ndarray:
    """What a crop makes of a hash: unrelated to it, and the same wherever the frame comes back."""
    return np.roll(hashes, turns, axis=-1) ^ np.uint64(0x5851F42D4C957F2D)


def _write_tables(store: Store, source: str, numbers: range) -> None:
    ids = [clip_id(number) for number in numbers]
    known = {
        "clips": {"clip_id": ids, "namespace": "made_up", "native_id": ids},
        "memberships": {"clip_id": ids, "source": source, "split": "train", "annotation_file": "none",
                        "annotation_row": range(1, len(ids) + 1), "licence": "none"},
        "media": {"clip_id": ids, "source": source, "status": "ok", "sha256": ids, "packet_hash": ids, "width": 340,
                  "height": 256, "fps": 30.0, "frames": 300, "duration_ms": 10_000, "bytes": 600_000},
    }  # fmt: skip
    for name, columns in known.items():
        schema = BY_NAME[name].schema
        arrays = []
        for column in schema:
            value = columns.get(column.name)
            if value is None or isinstance(value, str | int | float):
                arrays.append(pa.nulls(len(ids), column.type) if value is None
                              else pa.repeat(pa.scalar(value, column.type), len(ids)))  # fmt: skip
            else:
                arrays.append(pa.array(value, column.type))
        store.write(name, pa.table(arrays, schema=schema), source)


def _toml() -> str:
    head = """
[reelhouse]
data_root = "data"

[training]
preset = "smoke"
pretrain = "all"
post_pretrain = "labelled"
finetune = "labelled"

[collections.all]
splits = ["train"]

[collections.labelled]
splits = ["train", "val"]
taxonomy = "none"

[taxonomies.none]
"""
    source = """
[sources.{name}]
kind = "folder"
media_root = "videos"
annotations = "clips.csv"
collections = ["all", "labelled"]
stride = 4
licence = "none"
"""
    return head + "".join(source.format(name=name) for name in SOURCES)
