"""What is drawn for a clip, and that rendering does it in the official order."""

import dataclasses
from collections.abc import Callable, Collection, Iterator

import cv2
import numpy as np
import pytest

from loaders import recipes, views
from loaders.decode import Picture, decode_frames, decode_pictures
from loaders.erasing import noise
from loaders.image_operations import Augmenter
from loaders.order import Cursor, Draw
from loaders.views import LoaderConfig, View, render_views, training_views
from warehouse.catalog.samples import Sample

MakeSamples = Callable[[list[bytes]], list[Sample]]
PLAIN = LoaderConfig(clips_per_batch=1, frames=8, size=32, views=2, crop="random_resized", sampling="linspace")
FULL = dataclasses.replace(PLAIN, flip=True, randaugment=True, erasing=0.25)


def draw_many(config: LoaderConfig, sample: Sample, count: int = 400) -> list[tuple[View, ...]]:
    return [training_views(config, sample, Draw(0, place, 0, Cursor())) for place in range(count)]


@pytest.fixture
def sample(clips: list[bytes], make_samples: MakeSamples) -> Sample:
    return make_samples(clips[:1])[0]


def test_views_of_a_clip_share_its_frames_and_nothing_else(sample: Sample) -> None:
    drawn = draw_many(FULL, sample, 50)
    for first, second in drawn:
        np.testing.assert_array_equal(first.frame_ids, second.frame_ids)
    assert all(first.box != second.box for first, second in drawn)
    assert len({(view.operations, view.flip) for pair in drawn for view in pair}) > 60
    assert len({tuple(first.frame_ids) for first, _ in drawn}) > 20
    own = draw_many(dataclasses.replace(FULL, own_windows=True), sample, 50)
    assert sum(not np.array_equal(first.frame_ids, second.frame_ids) for first, second in own) > 40


def test_an_augmentation_leaves_the_other_draws_alone(sample: Sample) -> None:
    for plain, full in zip(draw_many(PLAIN, sample, 50), draw_many(FULL, sample, 50), strict=True):
        for one, other in zip(plain, full, strict=True):
            np.testing.assert_array_equal(one.frame_ids, other.frame_ids)
            assert one.box == other.box
            assert (one.flip, one.operations, one.erased) == (False, (), None)


def test_chances_are_those_of_the_recipe(sample: Sample) -> None:
    drawn = [view for pair in draw_many(FULL, sample, 2000) for view in pair]
    assert abs(np.mean([view.flip for view in drawn]) - 0.5) < 0.03
    assert abs(np.mean([view.erased is not None for view in drawn]) - 0.25) < 0.03
    assert abs(np.mean([len(view.operations) for view in drawn]) - 2) < 0.06


def test_clips_of_a_source_with_directions_are_never_flipped(sample: Sample) -> None:
    config = dataclasses.replace(FULL, unflipped=("another", sample.source))
    assert not any(view.flip for pair in draw_many(config, sample) for view in pair)
    other = dataclasses.replace(sample, source="elsewhere")
    assert any(view.flip for pair in draw_many(config, other) for view in pair)


def test_rendering_keeps_the_official_order(sample: Sample, clips: list[bytes]) -> None:
    """RandAugment on the whole frame, crop and resize, flip, erasing: done here step by step on whole frames."""
    everything = np.stack([frame for _, frame in decode_frames(sample, clips[0], range(sample.frames))])
    cropped_first = 0
    for pair in draw_many(FULL, sample, 40):
        shown = np.empty((2, 8, 32, 32, 3), np.uint8)
        render_views(sample, clips[0], pair, shown)
        for view, pixels in zip(pair, shown, strict=True):
            change = Augmenter(view.operations, sample.height, sample.width)
            rows, columns = view.box.slices
            shrinks = min(view.box.height, view.box.width) >= 40
            scaler = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            frames = [change(everything[index])[rows, columns] for index in view.frame_ids]
            expected = np.stack([cv2.resize(frame, (32, 32), interpolation=scaler) for frame in frames])
            if view.flip:
                expected = expected[:, :, ::-1].copy()
            if view.erased is not None:
                down, across = view.erased.box.slices
                expected[:, down, across] = noise(view.erased, 8)
            # Whole frames round the places that they are bent from otherwise: to a 32nd of a pixel, like parts.
            bent = any(op.name in ("rotate", "shear_x", "shear_y") for op in view.operations)
            np.testing.assert_allclose(pixels.astype(int), expected, atol=4 if bent else 0)
            after = Augmenter(view.operations, view.box.height, view.box.width)
            crop = np.ascontiguousarray(everything[view.frame_ids[0]][rows, columns])
            cropped_first += not np.array_equal(after(crop), frames[0])
    assert cropped_first > 20  # another order would have shown


def test_each_frame_is_decoded_once_for_all_views(
    sample: Sample, clips: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def counted(sample: Sample, data: bytes, wanted: Collection[int]) -> Iterator[tuple[int, Picture]]:
        for index, picture in decode_pictures(sample, data, wanted):
            decoded.append(index)
            yield index, picture

    monkeypatch.setattr(views, "decode_pictures", counted)
    config = dataclasses.replace(FULL, views=4)
    [drawn] = draw_many(config, sample, 1)
    render_views(sample, clips[0], drawn, np.empty((4, 8, 32, 32, 3), np.uint8))
    assert sorted(decoded) == sorted(set(drawn[0].frame_ids.tolist()))


@pytest.mark.parametrize("wrong", [{"erasing": 1.5}, {"mixup": -1}, {"sampling": "tsn"}])
def test_a_wrong_augmentation_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="LoaderConfig"):
        dataclasses.replace(FULL, **wrong)


def test_the_recipes_are_the_reference_s() -> None:
    paper = recipes.paper()
    pretraining = paper.pretrained
    assert (pretraining.views, pretraining.frames, pretraining.size) == (4, 16, 224)
    assert (pretraining.sampling, pretraining.crop, pretraining.flip) == ("dense", "multi_scale", False)
    assert (pretraining.randaugment, pretraining.erasing, pretraining.mixup, pretraining.cutmix) == (False, 0, 0, 0)
    for loader in (paper.post_pretrained, paper.finetuned, recipes.small().finetuned):
        assert (loader.views, loader.sampling, loader.crop, loader.flip) == (2, "linspace", "random_resized", True)
        assert (loader.randaugment, loader.erasing, loader.mixup, loader.cutmix) == (True, 0.25, 0.8, 1.0)
        assert not loader.own_windows
    assert (paper.evaluation.temporal_views, paper.evaluation.spatial_views) == (5, 3)
