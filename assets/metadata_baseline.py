"""What a classifier reaches that never looks at a picture: a guard against data sets whose files give labels away."""

import numpy as np

from warehouse.store import Store
from warehouse.takedown.takedowns import taken_down


def metadata_baseline(store: Store, snapshot_id: str, split: str) -> dict[str, float]:
    """Top-1 of the nearest training clip by width, height and frame count of the original files.

    Each number is scaled by its spread over the training clips; ties go to the class with most of the nearest clips.
    Returns ``{"top1_metadata_only": share}``; far above chance means that accuracy on this data proves little.
    """
    facts = {
        row["clip_id"]: (row["width"], row["height"], row["frames"])
        for row in store.rows("media")
        if row["status"] == "ok"
    }
    gone = taken_down(store)
    clips = [
        row
        for row in store.rows("snapshot_clips", snapshot_id)
        if row["class_id"] is not None and row["clip_id"] not in gone
    ]
    train_N3, train_classes = _arrays([row for row in clips if row["split"] == "train"], facts)
    test_M3, test_classes = _arrays([row for row in clips if row["split"] == split], facts)
    spread = train_N3.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    right = 0
    for features, wanted in zip(test_M3, test_classes, strict=True):
        distances = np.abs((train_N3 - features) / scale).sum(axis=1)
        nearest = train_classes[np.isclose(distances, distances.min())]
        right += int(np.bincount(nearest).argmax() == wanted)
    return {"top1_metadata_only": right / len(test_classes)}


def _arrays(
    rows: list[dict[str, int | str]], facts: dict[str, tuple[int, int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    features = np.array([facts[str(row["clip_id"])] for row in rows], dtype=float).reshape(-1, 3)
    return features, np.array([row["class_id"] for row in rows], dtype=int)
