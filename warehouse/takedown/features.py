"""Features of clips that were taken down: which files hold some, and taking them out.

A vector is made of the clip's pixels, and much of a clip can be told from it: it is content, not a fact about it.
"""

from collections.abc import Iterator, Set
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from warehouse.schema import BY_NAME
from warehouse.store import Store, read_parquet

UNFINISHED = "*/features/*.parquet"
"""Below ``runs/``: what a run that extracts features has so far. It makes again what is missing of it."""


def features_held(store: Store, clips: Set[str]) -> Iterator[tuple[Path, list[str]]]:
    """Each file with features of some of the clips, and the ids of these."""
    wanted = pa.array(sorted(clips), pa.string())
    files = [store.path("features", part) for part in store.parts("features")]
    for path in (*files, *sorted(store.runs.glob(UNFINISHED))):
        ids = read_parquet(path, ["clip_id"])["clip_id"]
        if held := pc.unique(ids.filter(pc.is_in(ids, value_set=wanted))).to_pylist():
            yield path, sorted(held)


def remove_features(store: Store, clips: Set[str]) -> list[Path]:
    """Write the files that hold features of the clips anew without them; returns their paths.

    What an unfinished run has is deleted instead: the run makes it again, without the clips.
    """
    changed = []
    for path, _ in features_held(store, clips):
        if path.is_relative_to(store.tables):
            _rewrite(store, path, clips)
        else:
            path.unlink(missing_ok=True)
        changed.append(path)
    return changed


def _rewrite(store: Store, path: Path, clips: Set[str]) -> None:
    gone = pa.array(sorted(clips), pa.string())
    with pa.OSFile(str(path)) as file:
        rows = (
            batch.filter(pc.invert(pc.is_in(batch["clip_id"], value_set=gone)))
            for batch in pq.ParquetFile(file).iter_batches()
        )
        # Row group by row group: of a million clips they are gigabytes.
        store.write("features", pa.RecordBatchReader.from_batches(BY_NAME["features"].schema, rows), path.stem)
