import dataclasses
from collections.abc import Callable

import av
import numpy as np
import pytest

from loaders.augment import Box, crop_resize
from loaders.decode import decode_frames, decode_pictures
from loaders.pictures import Converter
from loaders.views import View, render_views
from warehouse.catalog.sample import Sample

MakeSamples = Callable[[list[bytes]], list[Sample]]


def frame_of_noise(width: int, height: int, pixel_format: str, matrix: int, colour_range: int) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, pixel_format)
    rng = np.random.default_rng(width)
    for plane in frame.planes:
        plane.update(rng.integers(16, 236, plane.buffer_size, np.uint8).tobytes())
    frame.colorspace, frame.color_range = matrix, colour_range
    return frame


def boxes_of(width: int, height: int) -> list[Box]:
    rng = np.random.default_rng(height)
    found = [Box(0, 0, height, width), Box(height - 1, width - 1, 1, 1)]
    for _ in range(60):
        tall, wide = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        found.append(Box(top, left, tall, wide))
    return found


@pytest.mark.parametrize(("width", "height"), [(340, 256), (96, 72), (101, 77), (34, 37)])
@pytest.mark.parametrize(
    ("pixel_format", "matrix", "colour_range"),
    [("yuv420p", 6, 1), ("yuv420p", 2, 0), ("yuv420p", 1, 2), ("yuvj420p", 5, 2), ("yuv444p", 6, 1), ("gray", 2, 0)],
)
def test_a_crop_is_what_it_is_in_the_whole_frame(
    width: int, height: int, pixel_format: str, matrix: int, colour_range: int
) -> None:
    frame = frame_of_noise(width, height, pixel_format, matrix, colour_range)
    converter = Converter(height, width)
    whole = converter.whole(frame)
    assert whole.shape == (height, width, 3)
    for box in boxes_of(width, height):
        np.testing.assert_array_equal(converter.crop(frame, box), whole[box.slices])


def test_a_crop_follows_the_colours_of_each_frame() -> None:
    converter, box = Converter(48, 64), Box(3, 5, 21, 30)
    for matrix, colour_range in ((6, 1), (1, 1), (6, 2), (6, 1)):
        frame = frame_of_noise(64, 48, "yuv420p", matrix, colour_range)
        np.testing.assert_array_equal(converter.crop(frame, box), Converter(48, 64).whole(frame)[box.slices])


@pytest.mark.parametrize("kind", ["np", "mjpeg", "vp9"])
@pytest.mark.parametrize("stored", [(72, 96), (36, 48)])
def test_views_are_crops_of_whole_frames_whoever_shares_them(
    kind: str, stored: tuple[int, int], videos: dict[str, bytes], make_samples: MakeSamples
) -> None:
    height, width = stored
    sample = dataclasses.replace(make_samples([videos[kind]])[0], height=height, width=width)
    alone, shared = np.array([3, 7, 11, 11]), np.array([7, 15, 20, 20])
    views = (
        View(alone, Box(1, 3, 30, 40), False),
        View(shared, Box(0, 5, 36, 36), True),
        View(shared, Box(5, 0, 24, 43), False),
    )
    pixels = np.zeros((3, 4, 24, 24, 3), np.uint8)
    render_views(sample, videos[kind], views, pixels)
    frames = dict(decode_frames(sample, videos[kind], {3, 7, 11, 15, 20}))
    for number, view in enumerate(views):
        expected = [crop_resize(frames[index], view.box, 24, view.flip) for index in view.frame_ids.tolist()]
        np.testing.assert_array_equal(pixels[number], np.stack(expected))


def test_pictures_stay_valid_while_the_next_are_decoded(videos: dict[str, bytes], make_samples: MakeSamples) -> None:
    (sample,) = make_samples([videos["np"]])
    kept = list(decode_pictures(sample, videos["np"], range(0, 60, 2)))
    expected = dict(decode_frames(sample, videos["np"], range(0, 60, 2)))
    assert [index for index, _ in kept] == list(range(0, 60, 2))
    for index, picture in kept:
        np.testing.assert_array_equal(picture.crop(Box(2, 4, 30, 50)), expected[index][2:32, 4:54])
