"""Training batches on an NVIDIA GPU: workers trim packets, DALI decodes, crops and resizes them on the device.

Same order, same views, same failures as ``ClipLoader``; pixels agree within the tolerance that the tests state (other
decoder and scaler). DALI's video decoder does not seek, so it is handed only the packets that a clip's views need.
"""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch

from loaders.augment import SHRINKS
from loaders.batch import Batch
from loaders.failures import FailedClip
from loaders.jobs import PackedViews, TrainingPackets
from loaders.order import Cursor
from loaders.stream import ClipStream
from loaders.train_loader import class_ids
from loaders.views import LoaderConfig
from warehouse.catalog.snapshots import Sample, Tombstone

if TYPE_CHECKING:
    from nvidia.dali import Pipeline

DECODER_THREADS = 4


class DaliClipLoader:
    """Like ``ClipLoader``, with frames on the GPU ``device_id``.

    Raises:
        RuntimeError: there is no GPU, or no DALI for this platform.
    """

    def __init__(
        self,
        samples: Sequence[Sample | Tombstone],
        config: LoaderConfig,
        rank: int = 0,
        world: int = 1,
        start: Cursor | None = None,
        device_id: int = 0,
    ) -> None:
        if not torch.cuda.is_available():
            raise RuntimeError("DALI decodes H.264 only on an NVIDIA GPU; use ClipLoader")
        self.config = config
        self._pipeline = build_pipeline(config, "gpu", device_id)
        self._stream = ClipStream(TrainingPackets(config), samples, config, rank, world, start)

    @property
    def cursor(self) -> Cursor:
        """Where the stream continues after the last batch given out."""
        return self._stream.cursor

    @property
    def failures(self) -> tuple[FailedClip, ...]:
        """The clips that failed so far, each once. One that DALI refuses raises DALI's error instead."""
        return self._stream.failures.clips

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        asked = time.perf_counter()
        results = [next(self._stream) for _ in range(self.config.clips_per_batch)]
        packed = [result.outcome for result in results if isinstance(result.outcome, PackedViews)]
        frames = run_pipeline(self._pipeline, self.config, packed)
        samples = [result.sample for result in results]
        return Batch(
            frames=frames,
            class_ids=class_ids(samples).repeat_interleave(self.config.views),
            clip_ids=tuple(sample.clip_id for sample in samples),
            cursor=self.cursor,
            data_wait_s=time.perf_counter() - asked,
        )

    def close(self) -> None:
        """End the worker processes."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def build_pipeline(config: LoaderConfig, device: Literal["cpu", "gpu"], device_id: int | None) -> "Pipeline":
    """Encoded clips → for each view uint8 (T, S, S, 3). On a CPU, DALI takes VP8, VP9 and MJPEG alone.

    Raises:
        RuntimeError: DALI is not installed (it exists for Linux alone).
    """
    try:
        from nvidia.dali import Pipeline, fn
    except ImportError as error:
        raise RuntimeError("nvidia-dali is not installed (it exists for Linux alone); use ClipLoader") from error
    types = _dali_types()

    def fed(name: str, dtype: Any, ndim: int) -> Any:
        return fn.external_source(name=name, dtype=dtype, ndim=ndim)

    pipeline = Pipeline(
        batch_size=config.clips_per_batch,
        num_threads=DECODER_THREADS,
        device_id=device_id,
        prefetch_queue_depth=1,
        exec_dynamic=True,
    )
    with pipeline:
        encoded = fed("encoded", types.UINT8, 1)
        decoder = "mixed" if device == "gpu" else "cpu"
        video = fn.decoders.video(encoded, frames=fed("frames", types.INT32, 1), device=decoder)
        outputs = []
        for view in range(config.views):
            clip: Any = fn.sequence_rearrange(video, new_order=fed(f"order{view}", types.INT32, 1))
            anchor, shape = fed(f"anchor{view}", types.INT32, 1), fed(f"shape{view}", types.INT32, 1)
            clip = fn.slice(clip, anchor, shape, axes=(1, 2))
            scaler = fn.cast(fed(f"scaler{view}", types.INT32, 0), dtype=types.INTERP_TYPE)
            clip = fn.resize(clip, size=(config.size, config.size), interp_type=scaler, antialias=False)
            outputs.append(fn.flip(clip, horizontal=fed(f"flip{view}", types.INT32, 0)))
        pipeline.set_outputs(*outputs)
    pipeline.build()
    return pipeline


def run_pipeline(pipeline: "Pipeline", config: LoaderConfig, clips: Sequence[PackedViews]) -> torch.Tensor:
    """The views of a batch of clips, uint8 (clips · views, T, S, S, 3), on the pipeline's device."""
    types = _dali_types()
    pipeline.feed_input("encoded", [np.frombuffer(packed.clip.data, np.uint8) for packed in clips])
    pipeline.feed_input("frames", [np.array(packed.clip.frame_ids, np.int32) for packed in clips])
    for number in range(config.views):
        views = [packed.views[number] for packed in clips]
        boxes = [view.box for view in views]
        # The same choice as augment.crop_resize makes: a triangular filter is DALI's way of averaging.
        shrinks = [min(box.height, box.width) >= SHRINKS * config.size for box in boxes]
        scalers = [types.INTERP_TRIANGULAR if shrink else types.INTERP_LINEAR for shrink in shrinks]
        pipeline.feed_input(f"order{number}", [view.frame_ids.astype(np.int32) for view in views])
        pipeline.feed_input(f"anchor{number}", [np.array([box.top, box.left], np.int32) for box in boxes])
        pipeline.feed_input(f"shape{number}", [np.array([box.height, box.width], np.int32) for box in boxes])
        pipeline.feed_input(f"scaler{number}", [np.array(int(scaler), np.int32) for scaler in scalers])
        pipeline.feed_input(f"flip{number}", [np.array(view.flip, np.int32) for view in views])
    # Copied out: DALI writes its buffers again in the next run.
    outputs = [torch.from_dlpack(output.as_tensor()).clone() for output in pipeline.run()]
    return torch.stack(outputs, dim=1).flatten(0, 1)


def _dali_types() -> Any:
    from nvidia.dali import types  # its names are made when it is imported, so no type checker knows them

    return types
