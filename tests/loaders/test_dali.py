import dataclasses
import hashlib
import sys
import threading
from collections.abc import Callable
from itertools import islice

import pytest
import torch

from loaders.batch import Batch
from loaders.dali import DaliClipLoader, DaliEvaluationLoader
from loaders.dali_decoder import DaliDecoder
from loaders.evaluation_loader import EvaluationClipError, EvaluationLoader
from loaders.failures import TooManyFailuresError
from loaders.order import Cursor
from loaders.train_loader import ClipLoader
from loaders.views import EvaluationConfig, LoaderConfig
from warehouse.catalog.sample import Sample

MakeSamples = Callable[[list[bytes]], list[Sample]]
CONFIG = LoaderConfig(clips_per_batch=3, frames=8, size=32, views=2, seed=3, flip=True, crop="random_resized")
AUGMENTED = dataclasses.replace(CONFIG, sampling="linspace", randaugment=True, erasing=0.5)
EVALUATION = EvaluationConfig(clips_per_batch=5, frames=8, size=32, temporal_views=2, spatial_views=3)
# Grey levels of 255 in a view: the two paths interpolate chroma and scale differently. The next frame is 12 away.
MEAN_TOLERANCE, MAX_TOLERANCE = 4.0, 24
# With RandAugment, in a view and over many: posterize and equalize make large steps of what differs by a level.
AUGMENTED_TOLERANCE, AUGMENTED_MEAN_TOLERANCE = 12.0, 3.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="DALI exists for Linux alone")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU: DALI's H.264 path was not run")


def differences(shown: Batch, expected: Batch) -> torch.Tensor:
    """Differences of pixels, (B, …), of two batches that are the same in everything else."""
    assert shown.clip_ids == expected.clip_ids and shown.cursor == expected.cursor
    assert torch.equal(shown.class_ids, expected.class_ids)
    assert shown.frames.shape == expected.frames.shape and shown.frames.dtype == torch.uint8
    return (shown.frames.cpu().int() - expected.frames.int()).abs().float()


def assert_same_views(shown: Batch, expected: Batch) -> None:
    difference = differences(shown, expected)
    assert difference.flatten(1).mean(dim=1).max() <= MEAN_TOLERANCE
    assert difference.max() <= MAX_TOLERANCE
    # The comparison can tell frames apart.
    assert expected.frames.int().diff(dim=1).abs().float().mean() > 2 * MEAN_TOLERANCE


def take(samples: list[Sample], config: LoaderConfig, count: int, start: Cursor | None = None) -> list[Batch]:
    with DaliClipLoader(samples, config, start=start, device="cpu") as loader:
        return list(islice(loader, count))


def corrupt(sample: Sample) -> Sample:
    """Overwrite a frame in the middle, and promise those bytes: workers hand the packets over, DALI refuses them."""
    with sample.shard.open("r+b") as shard:
        shard.seek(sample.offset)
        data = bytearray(shard.read(sample.size))
        begins = [place for place in range(sample.size - 4) if data[place : place + 3] == b"\xff\xd8\xff"]
        assert len(begins) == sample.frames
        for place, end in zip(begins, [*begins[1:], begins[-1] + 600], strict=True):
            data[place:end] = bytes(end - place)
        shard.seek(sample.offset)
        shard.write(data)
    return dataclasses.replace(sample, sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("own_windows", [False, True])
@pytest.mark.parametrize("kind", ["vp9", "mjpeg"])  # which DALI decodes without a GPU
def test_dali_gives_the_batches_of_the_cpu_path(
    kind: str, own_windows: bool, videos: dict[str, bytes], mjpeg_clips: list[bytes], make_samples: MakeSamples
) -> None:
    samples = make_samples([videos["vp9"]] * 5 if kind == "vp9" else mjpeg_clips)
    samples[1] = dataclasses.replace(samples[1], stride=16)  # too short for that: its last frame is repeated
    config = dataclasses.replace(CONFIG, own_windows=own_windows)
    with DaliClipLoader(samples, config, device="cpu") as dali, ClipLoader(samples, config) as cpu:
        for shown, expected in islice(zip(dali, cpu, strict=True), 6):
            assert_same_views(shown, expected)
            assert dali.cursor == cpu.cursor == shown.cursor


@pytest.mark.parametrize("own_windows", [False, True])
def test_randaugment_and_erasing_are_those_of_the_cpu_path(
    own_windows: bool, mjpeg_clips: list[bytes], make_samples: MakeSamples
) -> None:
    samples = make_samples(mjpeg_clips)
    augmented = dataclasses.replace(AUGMENTED, own_windows=own_windows)
    plain = dataclasses.replace(augmented, randaugment=False, erasing=0.0)
    loaders = [ClipLoader(samples, augmented), ClipLoader(samples, plain)]
    with DaliClipLoader(samples, augmented, device="cpu") as dali:
        off, changed = [], []
        for shown, expected, unchanged in islice(zip(dali, *loaders, strict=True), 8):
            means = differences(shown, expected).flatten(1).mean(dim=1)
            assert means.max() <= AUGMENTED_TOLERANCE
            off.append(means.mean())
            changed.append(differences(unchanged, expected).flatten(1).mean(dim=1).mean())
    assert sum(off) / len(off) <= AUGMENTED_MEAN_TOLERANCE
    assert sum(changed) > 8 * sum(off)


def test_evaluation_is_that_of_the_cpu_path_also_in_a_second_pass(
    mjpeg_clips: list[bytes], make_samples: MakeSamples
) -> None:
    samples = make_samples(mjpeg_clips)
    expected = list(EvaluationLoader(samples, EVALUATION))
    workers = dataclasses.replace(EVALUATION, workers=2)
    with DaliEvaluationLoader(samples, workers, device="cpu") as loader:
        next(iter(loader))  # abandoned
        for _ in range(2):
            batches = list(loader)
            assert [len(batch.frames) for batch in batches] == [30, 30, 12]  # the last is smaller, not padded
            for shown, wanted in zip(batches, expected, strict=True):
                assert_same_views(shown, wanted)
    assert list(DaliEvaluationLoader(samples[:1], EVALUATION, rank=2, world=3, device="cpu")) == []


def test_a_resumed_run_gives_the_remaining_batches_with_another_number_of_workers(
    mjpeg_clips: list[bytes], make_samples: MakeSamples
) -> None:
    samples = make_samples(mjpeg_clips)
    samples[7] = corrupt(samples[7])
    config = dataclasses.replace(AUGMENTED, max_failed_share=0.5, mixup=0.8)
    whole = take(samples, config, 8)
    for done in (1, 4):
        resumed = dataclasses.replace(config, workers=done % 3)
        again = take(samples, resumed, 8 - done, whole[done - 1].cursor)
        for shown, expected in zip(again, whole[done:], strict=True):
            assert differences(shown, expected).max() == 0


def test_a_clip_that_dali_refuses_is_recorded_and_the_next_takes_its_place(
    mjpeg_clips: list[bytes], make_samples: MakeSamples
) -> None:
    samples = make_samples(mjpeg_clips)
    refused, unread = samples[2], samples[8]
    samples[2] = corrupt(refused)
    with unread.shard.open("r+b") as shard:  # a worker finds this one
        shard.seek(unread.offset + 1000)
        shard.write(b"broken")
    config = dataclasses.replace(CONFIG, max_failed_share=0.5, workers=1)
    with DaliClipLoader(samples, config, device="cpu") as dali:
        batches = list(islice(dali, 8))
        failures = {failure.clip_id: failure.error for failure in dali.failures}
    assert failures.keys() == {"clip-02", "clip-08"}
    assert "DALI: " in failures["clip-02"] and "SHA-256" in failures["clip-08"]
    assert str(refused.shard) in failures["clip-02"] and "\n" not in failures["clip-02"]
    # Neither path can use those two: both give the same of the others, and tell of them at the same batches.
    with ClipLoader(samples, config) as cpu:
        for shown, expected in zip(batches, islice(cpu, 8), strict=True):
            assert_same_views(shown, expected)
            assert [clip.clip_id for clip in shown.failed] == [clip.clip_id for clip in expected.failed]
    assert sum(len(batch.failed) for batch in batches) > 2


def test_too_many_refused_clips_stop_the_run_with_their_list(
    mjpeg_clips: list[bytes], make_samples: MakeSamples
) -> None:
    samples = make_samples(mjpeg_clips)
    samples[:4] = [corrupt(sample) for sample in samples[:4]]
    with DaliClipLoader(samples, CONFIG, device="cpu") as loader:
        with pytest.raises(TooManyFailuresError, match="DALI: ") as raised:
            for _ in islice(loader, 40):
                pass
        with pytest.raises(RuntimeError, match="ended by an error"):
            next(loader)
    assert {failure.clip_id for failure in raised.value.failures} <= {f"clip-0{number}" for number in range(4)}


def test_an_evaluation_stops_at_a_clip_that_dali_refuses(mjpeg_clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(mjpeg_clips)
    samples[6] = corrupt(samples[6])
    with DaliEvaluationLoader(samples, EVALUATION, device="cpu") as loader:
        batches = iter(loader)
        assert len(next(batches).frames) == 30
        with pytest.raises(EvaluationClipError, match="clip-06") as raised:
            next(batches)
    assert str(samples[6].shard) in str(raised.value)


def test_the_next_batch_is_made_while_the_consumer_computes(
    mjpeg_clips: list[bytes], make_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, collect = threading.Semaphore(0), DaliDecoder.collect

    def counted(decoder: DaliDecoder) -> torch.Tensor:
        frames = collect(decoder)
        made.release()
        return frames

    monkeypatch.setattr(DaliDecoder, "collect", counted)
    with DaliClipLoader(make_samples(mjpeg_clips), CONFIG, device="cpu") as loader:
        first = next(loader)
        kept = first.frames.clone()
        for _ in range(3):  # the one given out, one that waits, and one that waits for its place
            assert made.acquire(timeout=60)
        assert not made.acquire(timeout=0.5)  # and no more
        assert next(loader).clip_ids != first.clip_ids
        assert torch.equal(first.frames, kept)


def test_a_closed_or_forgotten_loader_leaves_no_thread(mjpeg_clips: list[bytes], make_samples: MakeSamples) -> None:
    before = threading.active_count()
    loader = DaliClipLoader(make_samples(mjpeg_clips), dataclasses.replace(CONFIG, workers=1), device="cpu")
    next(loader)
    loader.close()
    with pytest.raises(RuntimeError, match="was closed"):
        for _ in range(5):  # what was ready may still come
            next(loader)
    next(DaliClipLoader(make_samples(mjpeg_clips), CONFIG, device="cpu"))
    assert threading.active_count() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_to_use(make_samples: MakeSamples) -> None:
    with pytest.raises(RuntimeError, match="use ClipLoader"):
        DaliClipLoader(make_samples([b"data"]), CONFIG)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("config", [CONFIG, dataclasses.replace(CONFIG, workers=2)])
def test_gpu_path_equals_cpu_path(config: LoaderConfig, clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    with DaliClipLoader(samples, config) as gpu, ClipLoader(samples, config) as cpu:
        for shown, expected in islice(zip(gpu, cpu, strict=True), 6):
            assert shown.frames.is_cuda
            assert_same_views(shown, expected)


@pytest.mark.gpu
@needs_gpu
def test_gpu_augments_as_the_cpu_path(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    with DaliClipLoader(samples, AUGMENTED) as gpu, ClipLoader(samples, AUGMENTED) as cpu:
        for shown, expected in islice(zip(gpu, cpu, strict=True), 6):
            assert differences(shown, expected).flatten(1).mean(dim=1).max() <= AUGMENTED_TOLERANCE


@pytest.mark.gpu
@needs_gpu
def test_gpu_evaluates_as_the_cpu_path(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)
    with DaliEvaluationLoader(samples, EVALUATION) as gpu:
        for shown, expected in zip(gpu, EvaluationLoader(samples, EVALUATION), strict=True):
            assert_same_views(shown, expected)


@pytest.mark.gpu
@needs_gpu
def test_a_batch_stays_what_it_is_while_others_are_made(clips: list[bytes], make_samples: MakeSamples) -> None:
    """DALI writes its memory again; what was given out is not its memory."""
    with DaliClipLoader(make_samples(clips), CONFIG) as gpu:
        first = next(gpu)
        kept = first.frames.cpu()
        busy = torch.randn(2000, 2000, device="cuda")
        for batch in islice(gpu, 8):
            busy = busy @ busy / 2000  # the consumer's stream is behind
            del batch
        assert torch.equal(first.frames.cpu(), kept)
