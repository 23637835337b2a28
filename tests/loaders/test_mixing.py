from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from loaders.augment import Box
from loaders.batch import Batch
from loaders.mixing import Mix, draw_mix, mix_frames, mixed
from loaders.order import Cursor
from loaders.train_loader import ClipLoader
from loaders.views import LoaderConfig
from warehouse.catalog.samples import Sample

MakeSamples = Callable[[list[bytes]], list[Sample]]
CPU = torch.device("cpu")
CONFIG = LoaderConfig(clips_per_batch=3, frames=4, size=32, views=2, mixup=0.8, cutmix=1.0)


def drawn(config: LoaderConfig, count: int = 4000) -> list[Mix]:
    mixes = [draw_mix(config, 0, Cursor(0, position)) for position in range(count)]
    assert all(mix is not None for mix in mixes)  # with probability 1
    return [mix for mix in mixes if mix is not None]


def test_half_of_the_batches_are_cut_and_half_shine_through() -> None:
    mixes = drawn(CONFIG)
    assert abs(np.mean([mix.box is not None for mix in mixes]) - 0.5) < 0.03
    shares = np.array([mix.share for mix in mixes if mix.box is None])
    beta = np.random.default_rng(0).beta(0.8, 0.8, 100_000)
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert abs(np.quantile(shares, quantile) - np.quantile(beta, quantile)) < 0.04


def test_a_cut_s_share_is_that_of_the_pixels_it_leaves() -> None:
    mixes = drawn(replace(CONFIG, mixup=0.0, size=224))
    boxes = [mix.box for mix in mixes if mix.box]
    assert len(boxes) == len(mixes)
    for mix, box in zip(mixes, boxes, strict=True):
        assert 0 <= box.top <= box.top + box.height <= 224 and 0 <= box.left <= box.left + box.width <= 224
        assert mix.share == 1 - box.height * box.width / 224**2
    # Boxes of uniform area around a centre anywhere, cut off at the edges: all of them square before.
    sides = [(box.top, box.left, 224 - box.top - box.height, 224 - box.left - box.width) for box in boxes]
    whole = [box for box, around in zip(boxes, sides, strict=True) if min(around) > 0]
    assert all(box.height == box.width for box in whole) and len(whole) > 500
    assert len(boxes) - len(whole) > 1000


@pytest.mark.parametrize(("mixup", "cutmix", "cut"), [(0.8, 0.0, False), (0.0, 1.0, True)])
def test_one_alone(mixup: float, cutmix: float, cut: bool) -> None:
    assert {mix.box is not None for mix in drawn(replace(CONFIG, mixup=mixup, cutmix=cutmix), 50)} == {cut}


def test_the_draw_depends_on_seed_rank_and_cursor_alone() -> None:
    cursor = Cursor(2, 5)
    one = draw_mix(CONFIG, 1, cursor)
    assert one == draw_mix(replace(CONFIG, workers=3, views=4), 1, cursor)
    others = [draw_mix(replace(CONFIG, seed=1), 1, cursor), draw_mix(CONFIG, 0, cursor)]
    others += [draw_mix(CONFIG, 1, Cursor(2, 6)), draw_mix(CONFIG, 1, Cursor(3, 5))]
    assert one is not None and all(other is not None and other.share != one.share for other in others)
    assert draw_mix(replace(CONFIG, mixup=0, cutmix=0), 1, cursor) is None


def test_rows_are_mixed_with_the_row_opposite() -> None:
    frames = torch.randint(0, 256, (4, 2, 8, 8, 3), dtype=torch.uint8)
    through = mix_frames(frames, Mix(0.7, None))
    assert through.dtype == torch.float32
    torch.testing.assert_close(through[1], 0.7 * frames[1].float() + 0.3 * frames[2].float())
    cut = mix_frames(frames, Mix(1 - 6 / 64, Box(1, 2, 3, 2)))
    expected = frames.clone()
    expected[:, :, 1:4, 2:4] = frames.flip(0)[:, :, 1:4, 2:4]
    assert cut.dtype == torch.uint8 and torch.equal(cut, expected)


def test_a_resumed_stream_is_mixed_as_an_uninterrupted_one(clips: list[bytes], make_samples: MakeSamples) -> None:
    samples = make_samples(clips)

    def stream(start: Cursor | None, workers: int) -> Iterator[Batch]:
        config = replace(CONFIG, workers=workers)
        with ClipLoader(samples, config, start=start) as loader:
            yield from islice(mixed(loader, config, 0, CPU), 6 if start is None else 3)

    whole = list(stream(None, 0))
    resumed = list(stream(whole[2].cursor, 1))
    kinds = {batch.frames.dtype for batch in whole}
    assert kinds == {torch.uint8, torch.float32}  # both ways of mixing are among them
    assert all(0 <= batch.share <= 1 for batch in whole) and len({batch.share for batch in whole}) == 6
    for left, right in zip(whole[3:], resumed, strict=True):
        assert left.share == right.share and left.clip_ids == right.clip_ids
        assert torch.equal(left.frames, right.frames) and torch.equal(left.class_ids, right.class_ids)


def test_without_mixing_batches_pass_untouched(clips: list[bytes], make_samples: MakeSamples) -> None:
    config = replace(CONFIG, mixup=0.0, cutmix=0.0)
    with ClipLoader(make_samples(clips), config) as loader:
        [batch] = islice(mixed(loader, config, 0, CPU), 1)
    assert batch.share == 1 and batch.frames.dtype == torch.uint8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU: mixing on one was not compared")
def test_a_gpu_mixes_as_a_cpu() -> None:
    frames = torch.randint(0, 256, (4, 4, 32, 32, 3), dtype=torch.uint8)
    for mix in drawn(CONFIG, 20):
        on_gpu = mix_frames(frames.cuda(), mix)
        assert on_gpu.is_cuda
        torch.testing.assert_close(on_gpu.cpu(), mix_frames(frames, mix), rtol=0, atol=1e-3 if mix.box is None else 0)
