"""The simple path: DALI's own reader goes through a collection's shards from front to back, and DALI decodes.

It takes the folder that ``reelhouse collection export NAME --to DIR --index`` has written: no catalog, no workers. What
it gives up for that: shuffling is a buffer of ``SHUFFLED`` clips (shards are in random order inside already), weights
do not count, one thread checks and trims all clips (1 to 2 ms each), and a clip that fails ends it.
``DaliClipLoader`` is for all else.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyarrow import csv
from torch import Tensor

from loaders.dali import device_of, rows_of
from loaders.dali_batches import decoded_batches
from loaders.dali_decoder import DaliDecoder
from loaders.failures import FailedClip
from loaders.jobs import pack
from loaders.order import Cursor, Draw
from loaders.pool import Result
from loaders.prefetch import Prefetched
from loaders.train_loader import class_ids
from loaders.views import LoaderConfig, training_views
from warehouse.catalog.sample import Sample
from warehouse.shards.errors import ShardError

if TYPE_CHECKING:
    from nvidia.dali import Pipeline

SHUFFLED = 1024
"""Clips that the reader draws the next one from; a few hundred MB."""
_TYPES = {"clip_id": pa.string(), "source": pa.string(), "split": pa.string(), "class_id": pa.int64(),
          "weight": pa.float64(), "stride": pa.int64(), "frames": pa.int64(), "width": pa.int64(), "height": pa.int64(),
          "sha256": pa.string(), "file": pa.string()}  # fmt: skip


class ClipRefusedError(RuntimeError):
    """DALI cannot decode a clip."""


@dataclass(frozen=True)
class SequentialCursor:
    """Where a rank's stream goes on: clips read so far, and the checkpoint of DALI's reader (some 160 bytes).

    Good for the same export, configuration, rank and number of ranks.
    """

    clips: int
    reader: bytes


@dataclass(frozen=True, eq=False)
class SequentialBatch:
    """As ``loaders.batch.Batch``, with a cursor of its own kind."""

    frames: Tensor
    class_ids: Tensor
    clip_ids: tuple[str, ...]
    cursor: SequentialCursor
    data_wait_s: float


class DaliSequentialLoader:
    """An endless iterable of training batches from an export's split, on ``device``.

    Every epoch has each clip once; batches run across its end. Ranks read contiguous parts, which differ by a clip
    where these do not divide, so that their epochs drift apart. Views are drawn as for ``ClipLoader``, other ones.
    ``workers`` and ``prefetch_batches`` of the configuration mean nothing here.

    Raises:
        ValueError: the folder is no export with index files, or has no such split.
        RuntimeError: there is no such GPU, or no DALI for this platform.
        FileNotFoundError: a file of the export is not there.
        ShardError, DecodeError, ClipRefusedError: (while iterating) a clip has other bytes than it should, or FFmpeg or
            DALI cannot read it; names it and its shard.
    """

    def __init__(
        self,
        export: Path,
        split: str,
        config: LoaderConfig,
        rank: int = 0,
        world: int = 1,
        start: SequentialCursor | None = None,
        device: torch.device | str = "cuda",
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        self.config = config
        decoder = DaliDecoder(config, device_of(device))
        self._reader = _Reader(export, split, config, rank, world, start)
        make = partial(decoded_batches, self._reader.results(), decoder, _stop)
        self._batches = Prefetched(make, done=lambda: None)

    def __iter__(self) -> Iterator[SequentialBatch]:
        return self

    def __next__(self) -> SequentialBatch:
        asked = time.perf_counter()
        made = next(self._batches)
        samples = [result.sample for result in made.results]
        return SequentialBatch(
            frames=rows_of(made.frames),
            class_ids=class_ids(samples).repeat_interleave(self.config.views),
            clip_ids=tuple(sample.clip_id for sample in samples),
            cursor=self._reader.cursors.popleft(),
            data_wait_s=time.perf_counter() - asked,
        )

    def close(self) -> None:
        """End the thread."""
        self._batches.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Reader:
    """Clips as DALI reads them, with views drawn, and the cursor after each batch of them."""

    def __init__(
        self, export: Path, split: str, config: LoaderConfig, rank: int, world: int, start: SequentialCursor | None
    ) -> None:
        self._config, self._rank, self._world = config, rank, world
        self._clips = _Clips(export / "clips.csv", split)
        self._read = start.clips if start else 0
        self._pipeline = _pipeline(_files(export, split), config, rank, world, start)
        self.cursors: deque[SequentialCursor] = deque()

    def results(self) -> Iterator[Result]:
        """Endless."""
        while True:
            videos, infos = self._pipeline.run()
            self.cursors.append(SequentialCursor(self._read + len(videos), self._pipeline.checkpoint()))
            for number in range(len(videos)):
                data = np.asarray(videos.at(number)).tobytes()
                sample = self._clips.sample(np.asarray(infos.at(number)).tobytes().decode(), len(data))
                # Positions of all ranks together, as those of `loaders.order` are.
                position = self._read * self._world + self._rank
                self._read += 1
                draw = Draw(0, position, position, Cursor(0, position + 1))
                if hashlib.sha256(data).hexdigest() != sample.sha256:
                    raise ShardError(
                        f"{sample.shard}: bytes {sample.offset}+{sample.size} are not clip {sample.clip_id} (SHA-256 "
                        "differs). Export the collection again, or repair the shard"
                    )
                yield Result(sample, draw, 0, pack(sample, data, training_views(self._config, sample, draw)))


class _Clips:
    """What ``clips.csv`` says of a split, by clip: columns, of which a row becomes an object when it is read."""

    def __init__(self, path: Path, split: str) -> None:
        table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=_TYPES))
        if missing := _TYPES.keys() - set(table.column_names):
            raise ValueError(f"{path} has no column {sorted(missing)[0]!r}: export the collection again")
        self._rows = table.filter(pc.equal(table["split"], split)).combine_chunks()
        self._row_of = {clip_id: row for row, clip_id in enumerate(self._rows["clip_id"].to_pylist())}

    def sample(self, source_info: str, size: int) -> Sample:
        """The clip that DALI has read, from its ``SHARD.tar:OFFSET:CLIP_ID.SUFFIX``."""
        shard, offset, name = source_info.rsplit(":", 2)
        row: dict[str, Any] = {key: self._rows[key][self._row_of[name.partition(".")[0]]].as_py() for key in _TYPES}
        del row["file"]
        unread: dict[str, Any] = {"codec": "", "fps": 0.0}  # on which nothing depends here
        return Sample(**row, **unread, shard=Path(shard), offset=int(offset), size=size)


def _files(export: Path, split: str) -> tuple[list[str], list[str]]:
    described = json.loads((export / "collection.json").read_text())
    if split not in described["splits"]:
        raise ValueError(f"{export} has no split {split!r}, but {', '.join(described['splits'])}")
    files = described["splits"][split]
    if "index_paths" not in files:
        raise ValueError(f"{export} has tars of its own and no index files: export the collection with --index")
    return files["paths"], files["index_paths"]


def _pipeline(
    files: tuple[list[str], list[str]], config: LoaderConfig, rank: int, world: int, start: SequentialCursor | None
) -> "Pipeline":
    from nvidia.dali import Pipeline, fn  # DaliDecoder has said what to do where there is none

    paths, index_paths = files
    pipeline = Pipeline(
        batch_size=config.clips_per_batch,
        num_threads=1,
        device_id=None,
        seed=config.seed,
        enable_checkpointing=True,
        checkpoint=start.reader if start else None,
    )
    with pipeline:
        video: Any = fn.readers.webdataset(
            paths=paths,
            index_paths=index_paths,
            ext=[";".join(_suffixes(index_paths))],
            missing_component_behavior="error",
            random_shuffle=True,
            initial_fill=SHUFFLED,
            num_shards=world,
            shard_id=rank,
            stick_to_shard=True,
            dont_use_mmap=True,  # a mapped shard that is taken away while it is read would end the process
        )
        pipeline.set_outputs(video, fn.get_property(video, key="source_info"))
    pipeline.build()
    return pipeline


def _suffixes(index_paths: list[str]) -> list[str]:
    """Of the stored videos: a line of an index is ``suffix offset size name``."""
    suffixes = set()
    for path in index_paths:
        with Path(path).open() as file:
            next(file)
            suffixes |= {line.partition(" ")[0] for line in file}
    return sorted(suffixes)


def _stop(clip: FailedClip) -> None:
    raise ClipRefusedError(f"{clip.error}\nTake it out of the collection, or use DaliClipLoader, which passes over it.")
