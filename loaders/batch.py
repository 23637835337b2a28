"""What a loader hands to a training stage or an evaluation."""

from dataclasses import dataclass

from torch import Tensor

from loaders.order import Cursor


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows are views: B = clips × views, all views of a clip one after the other.

    Attributes:
        frames: uint8 (B, T, S, S, 3), RGB, not normalised.
        class_ids: int64 (B,), -1 for an unlabelled clip.
        clip_ids: per clip in training, per row in evaluation.
        cursor: where the stream continues after this batch.
        data_wait_s: seconds that the consumer waited for this batch.
    """

    frames: Tensor
    class_ids: Tensor
    clip_ids: tuple[str, ...]
    cursor: Cursor
    data_wait_s: float
