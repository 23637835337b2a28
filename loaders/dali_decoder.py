"""Trimmed clips → pixels of their views: NVIDIA DALI decodes, crops, scales and mirrors them on its device.

On a GPU the frames never pass through the host: NVDEC writes them into the GPU's memory, and only packets and a few
numbers for each view go there. On a CPU DALI decodes VP8, VP9 and MJPEG alone.

RandAugment comes before the crop and is not among DALI's operators as the method has it. Where it is drawn, DALI hands
over whole frames, and torch does the rest on the same device (``dali_augment``).
"""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from loaders import dali_augment
from loaders.augment import Box
from loaders.jobs import PackedViews
from loaders.views import EvaluationConfig, LoaderConfig, View

if TYPE_CHECKING:
    from nvidia.dali import Pipeline

THREADS = 4
"""Clips that are decoded at the same time. Not measured on a GPU yet: ``python -m benchmarks.gpu_loader``."""


class DaliDecoder:
    """Batches of up to ``config.clips_per_batch`` clips; several may be under way, and they come out in order.

    Raises:
        RuntimeError: DALI is not installed (it exists for Linux alone), or torch sees no such GPU.
    """

    def __init__(self, config: LoaderConfig | EvaluationConfig, device: torch.device, threads: int = THREADS) -> None:
        if device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("there is no NVIDIA GPU that torch can use; use ClipLoader and EvaluationLoader")
        self.config, self.device, self._threads = config, device, threads
        self._whole_frames = isinstance(config, LoaderConfig) and config.randaugment
        self._one_window = config.views == 1 or (isinstance(config, LoaderConfig) and not config.own_windows)
        self._pipeline = self._built()
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._under_way: deque[list[tuple[View, ...]]] = deque()

    def forget(self) -> None:
        """Drop the batches under way."""
        if self._under_way:
            self._under_way.clear()
            self._pipeline = self._built()

    def submit(self, clips: Sequence[PackedViews]) -> None:
        """Begin to decode a batch; returns at once. What is wrong with it shows when it is collected."""
        feed, views = self._pipeline.feed_input, [packed.views for packed in clips]
        feed("encoded", [np.frombuffer(packed.clip.data, np.uint8) for packed in clips])
        if self._one_window:
            window = [np.array(packed.clip.frame_ids, np.int32)[packed.views[0].frame_ids] for packed in clips]
            feed("frames", window)
        else:
            feed("frames", [np.array(packed.clip.frame_ids, np.int32) for packed in clips])
            feed("order", [np.array([view.frame_ids for view in of_clip], np.int32) for of_clip in views])
        if not self._whole_frames:
            feed("box", [np.array([_corner_and_shape(view.box) for view in of_clip], np.int32) for of_clip in views])
            feed("scaler", [np.array([self._scaler(view.box) for view in of_clip], np.int32) for of_clip in views])
            feed("flip", [np.array([view.flip for view in of_clip], np.int32) for of_clip in views])
        self._pipeline.schedule_run()
        self._under_way.append(views)

    def collect(self) -> torch.Tensor:
        """The oldest batch under way: uint8 (clips, views, T, S, S, 3) on the device, complete and the caller's own.

        Raises:
            Exception: whatever DALI raises. All batches under way are lost then, and new ones can be submitted:
                ``refused`` says which clips were the reason.
        """
        views = self._under_way.popleft()
        try:
            # Without a stream DALI waits until the pixels are there: the time that this takes is the time waited.
            outputs = self._pipeline.share_outputs()
            with torch.cuda.stream(self._stream):  # does nothing where there is no stream
                frames_CVTSS3 = self._rendered(outputs, views)
            if self._stream is not None:
                # DALI may write its memory again as soon as it is released, so what reads it has to be over. It has a
                # stream of its own: waiting for it does not mean waiting for the model.
                self._stream.synchronize()
        except Exception:
            self._under_way.clear()
            self._pipeline = self._built()  # DALI calls one that has failed no longer valid
            raise
        self._pipeline.release_outputs()
        return frames_CVTSS3

    def refused(self, clips: Sequence[PackedViews]) -> dict[int, str]:
        """Which of the clips DALI cannot decode, and why: each is tried alone. Nothing else may be under way."""
        reasons = {}
        for number, packed in enumerate(clips):
            try:
                self.submit([packed])
                self.collect()
            except Exception as error:
                reasons[number] = reason(error)
        return reasons

    def _rendered(self, outputs: Sequence[Any], views: Sequence[tuple[View, ...]]) -> torch.Tensor:
        config = self.config
        shape = (len(views), config.views, config.frames, config.size, config.size, 3)
        frames_CVTSS3 = torch.empty(shape, dtype=torch.uint8, device=self.device)
        for number in range(config.views):
            output = outputs[number % len(outputs)]  # whole frames of one window come once for all views
            if not self._whole_frames:
                frames_CVTSS3[:, number].copy_(torch.from_dlpack(output.as_tensor()))
            for clip, of_clip in enumerate(views):
                view, target = of_clip[number], frames_CVTSS3[clip, number]
                if self._whole_frames:
                    target.copy_(dali_augment.render(torch.from_dlpack(output[clip]), view, config.size))
                if view.erased:
                    dali_augment.erase(target, view.erased)
        return frames_CVTSS3

    def _scaler(self, box: Box) -> int:
        types = _dali_types()
        averages = dali_augment.averages(box, self.config.size)
        return int(types.INTERP_TRIANGULAR if averages else types.INTERP_LINEAR)

    def _built(self) -> "Pipeline":
        try:
            from nvidia.dali import Pipeline, fn
        except ImportError as error:
            raise RuntimeError("nvidia-dali is not installed (it exists for Linux alone); use ClipLoader") from error
        types = _dali_types()
        on_gpu = self.device.type == "cuda"

        def fed(name: str, dtype: Any, ndim: int) -> Any:
            return fn.external_source(name=name, dtype=dtype, ndim=ndim)

        pipeline = Pipeline(
            batch_size=self.config.clips_per_batch,
            num_threads=self._threads,
            device_id=(self.device.index or 0) if on_gpu else None,
            # How many runs the first call of schedule_run starts. One each time: `submit` decides.
            prefetch_queue_depth=1,
            exec_dynamic=True,
        )
        with pipeline:
            video = fn.decoders.video(
                fed("encoded", types.UINT8, 1),
                frames=fed("frames", types.INT32, 1),
                pad_mode="none",  # a frame that is not there is an error; by default it would be black
                affine=False,  # else every rank would pin its threads to the same cores
                device="mixed" if on_gpu else "cpu",
            )
            clips: list[Any] = [video] * self.config.views
            if not self._one_window:
                order = fed("order", types.INT32, 2)
                clips = [fn.sequence_rearrange(clip, new_order=order[number]) for number, clip in enumerate(clips)]
            if not self._whole_frames:
                box, size = fed("box", types.INT32, 2), (self.config.size, self.config.size)
                scaler, flip = fed("scaler", types.INT32, 1), fed("flip", types.INT32, 1)
                for number, clip in enumerate(clips):
                    crop: Any = fn.slice(clip, box[number, :2], box[number, 2:], axes=(1, 2))
                    interpolation = fn.cast(scaler[number], dtype=types.INTERP_TYPE)
                    crop = fn.resize(crop, size=size, interp_type=interpolation, antialias=False)
                    clips[number] = fn.flip(crop, horizontal=flip[number])
            pipeline.set_outputs(*(clips[:1] if self._whole_frames and self._one_window else clips))
        pipeline.build()
        return pipeline


def reason(error: Exception) -> str:
    """What DALI says of a clip, in a line: without the pipeline's definition and DALI's own source files."""
    text = str(error).partition("encountered:")[2] or str(error)
    text = text.partition("C++ context:")[0]
    return "DALI: " + " ".join(text.split())


def _corner_and_shape(box: Box) -> tuple[int, int, int, int]:
    return box.top, box.left, box.height, box.width


def _dali_types() -> Any:
    from nvidia.dali import types  # its names are made when it is imported, so no type checker knows them

    return types
