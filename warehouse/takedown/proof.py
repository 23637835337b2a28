"""The proof that clips are gone: every file under the data root is read and searched for their bytes and their ids.

Tables, the catalog, what probing and the duplicate search remember, and results of runs go on naming a clip: that it
was listed, what was measured of it (its frame hashes and probe facts too) and who has seen it are facts, not content,
and without them a takedown could not be accounted for. Anywhere else neither its bytes nor its id may be found.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse.catalog.build import connect
from warehouse.store import Store
from warehouse.takedown.features import features_held
from warehouse.takedown.prints import Search

_FACTS = re.compile(r"tables/.+|probing/.+|search/.+|warehouse\.duckdb.*|runs/[^/]+/(result\.json|failures\.jsonl)")
_CLIP_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


class ContentLeftError(RuntimeError):
    """Something of a clip that was taken down is left under the data root, or a file could not be searched."""


@dataclass(frozen=True)
class Trace:
    """A file that has something of a clip: its ``bytes``, its ``name`` (in the file, or as a part of its path), or its
    ``features``."""

    path: Path
    clip_id: str
    what: str


@dataclass(frozen=True)
class Proof:
    """What was searched, and what was found.

    Attributes:
        searched: files and their bytes, by the first folder below the data root (`.`: files in the root itself).
        facts: files that name clips, as they may.
        left: what should not be there.
        unread: files that could not be read, and why.
        without_prints: clips of whose bytes no print is known, which are searched for by id alone: they were in no
            shard, or are too uniform.
    """

    searched: Mapping[str, tuple[int, int]]
    facts: tuple[Path, ...]
    left: tuple[Trace, ...]
    unread: tuple[tuple[Path, str], ...]
    without_prints: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether all files were read and nothing is left."""
        return not self.left and not self.unread

    def without(self, removed: Iterable[Path]) -> "Proof":
        """The proof once these files and folders are gone."""
        folders = list(removed)
        left = [trace for trace in self.left if not any(trace.path.is_relative_to(folder) for folder in folders)]
        return replace(self, left=tuple(left))

    def complaints(self, store: Store) -> list[str]:
        """A line for each file that something is left in, or that could not be read, and what to do about it."""
        lines = ["something is left:"] if self.left else []
        for trace in self.left:
            if trace.what == "name":
                lines.append(f"  {trace.path}: names clip {trace.clip_id}. Delete it, or make it anew.")
            elif trace.what == "features":
                lines.append(
                    f"  {trace.path}: features of clip {trace.clip_id}, written since by a run that was under way when "
                    "it was taken down. Run `reelhouse compact` again"
                )
            elif copies := _copies_there(store, trace):
                lines.append(
                    f"  {trace.path}: bytes of clip {trace.clip_id}, which its copy there shares. "
                    f"Take it down too: reelhouse takedown {' '.join(copies)}"
                )
            else:
                lines.append(f"  {trace.path}: bytes of clip {trace.clip_id}. Delete it, or make it anew.")
        return lines + [f"{path}: could not be searched ({why}). Make it readable." for path, why in self.unread]


def prove(store: Store, clips: Set[str], workers: int) -> Proof:
    """Search all files under the data root for clips, each file by one of ``workers`` threads.

    Links to folders are followed. What is compressed is not looked into, and so neither is the inside of the tables:
    but those of features may have no row of these clips.
    """
    prints = store.read("content_prints")
    prints = prints.filter(pc.is_in(prints["clip_id"], value_set=pa.array(sorted(clips), pa.string())))
    search = Search(prints, clips)
    sizes: dict[str, tuple[int, int]] = {}
    facts, left, unread = [], [], []

    def look(path: Path) -> tuple[int, Any] | str:
        try:
            with path.open("rb") as file:
                found = search.traces(file)
                return file.tell(), found
        except FileNotFoundError:
            return 0, None  # gone since it was listed
        except OSError as error:
            return str(error.strerror)

    with ThreadPoolExecutor(workers) as pool:
        paths = list(_files(store.root))
        for path, result in zip(paths, pool.map(look, paths), strict=True):
            if isinstance(result, str):
                unread.append((path, result))
                continue
            size, found = result
            inside = path.relative_to(store.root)
            place = inside.parts[0] if len(inside.parts) > 1 else "."
            files, total = sizes.get(place, (0, 0))
            sizes[place] = files + 1, total + size
            names = set(_CLIP_ID.findall(str(inside))) & clips
            if found:
                left += [Trace(path, clip, "bytes") for clip in sorted(found.bytes_of)]
                names |= found.names
            if names and _FACTS.fullmatch(inside.as_posix()):
                facts.append(path)
            else:
                left += [Trace(path, clip, "name") for clip in sorted(names)]
    left += [Trace(path, clip, "features") for path, held in features_held(store, clips) for clip in held]
    known = set(prints["clip_id"].unique().to_pylist())
    return Proof(sizes, tuple(facts), tuple(left), tuple(unread), tuple(sorted(clips - known)))


def _copies_there(store: Store, trace: Trace) -> list[str]:
    """Clips in the tar of a trace that are verified copies of its clip: whose bytes were taken for the clip's."""
    with connect(store) as connection:
        rows = connection.execute(
            """
            SELECT DISTINCT s.clip_id FROM samples s JOIN shards h USING (shard)
            JOIN duplicate_edges e ON (e.clip_a = $clip AND e.clip_b = s.clip_id)
                                   OR (e.clip_b = $clip AND e.clip_a = s.clip_id)
            WHERE h.path = $path ORDER BY s.clip_id
            """,
            {"clip": trace.clip_id, "path": str(trace.path.relative_to(store.root))},
        ).fetchall()
    return [clip for (clip,) in rows]


def _files(root: Path) -> Iterator[Path]:
    """Regular files under a folder, each folder once however many links lead to it."""
    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in sorted(names):
            path = Path(folder) / name
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    yield path
            except FileNotFoundError:  # gone, or a link that leads nowhere
                continue
