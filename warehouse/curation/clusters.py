"""Clusters of copies: connected components of verified pairs, and for each clip the copy to prefer."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.schema import BY_NAME


def clusters(edges: pa.Table, preferred: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Table ``duplicate_clusters``: connected components, and for each clip the preferred of itself and its neighbours.

    The canonical clip has a verified edge to the clip it stands for: two clips that are only connected through a
    third one never stand for each other.

    Args:
        edges: columns ``clip_a`` and ``clip_b``.
        preferred: the clips in them, and perhaps others, the preferred first.
    """
    ends = [np.asarray(edges[name].to_pylist(), dtype=object) for name in ("clip_a", "clip_b")]
    ids, number = np.unique(np.concatenate(ends), return_inverse=True)
    a, b = np.split(number, 2)
    ranks = pc.index_in(pa.array(ids, pa.string()), value_set=preferred).to_numpy().astype(np.int64)
    best = ranks.copy()
    np.minimum.at(best, a, ranks[b])
    np.minimum.at(best, b, ranks[a])
    by_rank = np.argsort(ranks)
    canonical = by_rank[np.searchsorted(ranks, best, sorter=by_rank)]
    columns = {"clip_id": ids, "cluster_id": ids[components(len(ids), a, b)], "canonical_id": ids[canonical]}
    return pa.table({name: pa.array(values.tolist(), pa.string()) for name, values in columns.items()}).cast(
        BY_NAME["duplicate_clusters"].schema
    )


def components(count: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Union-find over edges between nodes 0 to ``count`` - 1: for each node the smallest of its component, int64."""
    root = np.arange(count)
    while True:
        of_a, of_b = root[a], root[b]
        apart = of_a != of_b
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(of_a, of_b)[apart], np.minimum(of_a, of_b)[apart])
        while (root != root[root]).any():
            root = root[root]
