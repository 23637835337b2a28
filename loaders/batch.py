"""What a loader hands to a training stage or an evaluation."""

from dataclasses import dataclass

from torch import Tensor

from loaders.failures import FailedClip
from loaders.order import Cursor


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows are views: B = clips × views, all views of a clip one after the other.

    Attributes:
        frames: uint8 (B, T, S, S, 3), RGB, not normalised; float32 on the same scale where they are mixed.
        class_ids: int64 (B,), on the CPU; -1 for an unlabelled clip.
        clip_ids: per clip in training, per row in evaluation.
        cursor: where the stream continues after this batch.
        data_wait_s: seconds that the consumer waited for this batch.
        share: of each row, what is its own; the rest is of the row opposite (the first mixed with the last …), and its
            class likewise. ``loaders.mixing`` mixes.
        failed: clips that were passed over on the way to this batch. In an evaluation that would be an error.
    """

    frames: Tensor
    class_ids: Tensor
    clip_ids: tuple[str, ...]
    cursor: Cursor
    data_wait_s: float
    share: float = 1.0
    failed: tuple[FailedClip, ...] = ()
