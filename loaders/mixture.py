"""Mixtures: how often clips of each source are drawn.

Two things say so. A snapshot has a weight for each clip, relative to the others; and a loader may be given a share for
each source, relative to the other sources. With shares, weights count within a source alone: a source's share is that
of the draws, however many clips it has. One with a large share of few clips is repeated within an epoch, one with a
small share of many is not exhausted by it.
"""

from collections.abc import Mapping

import numpy as np

from warehouse.catalog.samples import OrderColumns


def mixture_weights(columns: OrderColumns, shares: Mapping[str, float] | None) -> np.ndarray:
    """How often each place is drawn relative to the others: float64 (N,).

    Clips that have been taken down count with their source as before, so that the order of the others stays.

    Args:
        columns: of an opened snapshot.
        shares: of each source, as source → number of 0 or more, on any scale; ``None``: as the weights say.

    Raises:
        ValueError: a source of the snapshot has no share, a share names none of its sources, or a source with a share
            has no clip of a weight above 0; says which.
    """
    if shares is None:
        return columns.weight
    present = sorted(columns.source_names[code] for code in np.unique(columns.source))
    known = ", ".join(present)
    if unnamed := sorted(set(present) - set(shares)):
        raise ValueError(
            f"source_shares: no share for {', '.join(unnamed)}. Name every source of the snapshot ({known}); "
            "a share of 0 leaves one out"
        )
    if unknown := sorted(name for name, share in shares.items() if share and name not in present):
        raise ValueError(f"source_shares: the snapshot has no clip of {', '.join(unknown)}; its sources are {known}")
    share_S = np.array([shares.get(name, 0.0) for name in columns.source_names], np.float64)
    if not np.isfinite(share_S).all() or share_S.min() < 0 or share_S.max() == 0:
        raise ValueError(f"source_shares: shares must be finite, none negative, and not all 0: {dict(shares)}")
    total_S = np.bincount(columns.source, columns.weight, minlength=len(share_S))
    if empty := [name for name, share, total in zip(columns.source_names, share_S, total_S, strict=True)
                 if share > 0 and not total > 0]:  # fmt: skip
        raise ValueError(f"source_shares: {', '.join(empty)} cannot be drawn, as all its clips have a weight of 0")
    factor_S = np.divide(share_S, total_S, out=np.zeros_like(share_S), where=total_S > 0)
    return columns.weight * factor_S[columns.source]
