import numpy as np
import pytest

from loaders.sampling import centred, dense, linspace, multi_view


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_dense_starts_anywhere_the_span_fits_and_steps_by_the_stride(rng: np.random.Generator) -> None:
    drawn = [dense(70, 16, 4, rng) for _ in range(300)]
    assert {int(ids[0]) for ids in drawn} == set(range(7))  # 0 … 70 - 64
    assert all((np.diff(ids) == 4).all() for ids in drawn)


@pytest.mark.parametrize(
    ("n_frames", "frames", "stride", "expected"),
    [(16, 6, 4, [0, 4, 8, 12, 12, 12]), (5, 4, 2, [0, 2, 2, 2]), (1, 3, 4, [0, 0, 0]), (13, 5, 4, [0, 4, 8, 8, 8])],
)
def test_dense_on_short_clips_as_the_official_code(
    rng: np.random.Generator, n_frames: int, frames: int, stride: int, expected: list[int]
) -> None:
    assert dense(n_frames, frames, stride, rng).tolist() == expected


def test_linspace_is_wider_than_the_stride(rng: np.random.Generator) -> None:
    drawn = [linspace(66, 16, 4, rng) for _ in range(100)]
    assert {int(ids[0]) for ids in drawn} == {0, 1}
    first = next(ids for ids in drawn if ids[0] == 0)
    assert first.tolist() == [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]


def test_linspace_pads_short_clips_with_the_last_frame(rng: np.random.Generator) -> None:
    assert linspace(16, 6, 4, rng).tolist() == [0, 5, 10, 15, 15, 15]
    assert linspace(2, 3, 4, rng).tolist() == [1, 1, 1]


def test_centred_is_the_middle_window_of_linspace() -> None:
    ids = centred(164, 16, 4)
    assert ids[0] == 50 and ids[-1] == 113
    assert centred(16, 6, 4).tolist() == [0, 5, 10, 15, 15, 15]


def test_multi_view_spreads_windows_over_the_strided_frames() -> None:
    ids = multi_view(300, 16, 4, 5)  # 75 strided frames, 59 to spare
    assert (ids[:, 0] // 4).tolist() == [0, 14, 29, 44, 59]
    assert (np.diff(ids, axis=1) == 4).all() and ids[-1, -1] == 296
    assert multi_view(300, 16, 4, 1)[0, 0] // 4 == 29
    assert multi_view(10, 4, 4, 2).tolist() == [[0, 4, 8, 8], [0, 4, 8, 8]]


def test_all_indices_lie_within_the_clip(rng: np.random.Generator) -> None:
    for n_frames in range(1, 80):
        for frames, stride in ((16, 4), (16, 2), (4, 1), (1, 8)):
            views = [dense(n_frames, frames, stride, rng), linspace(n_frames, frames, stride, rng)]
            views += [centred(n_frames, frames, stride), *multi_view(n_frames, frames, stride, 3)]
            for ids in views:
                assert ids.shape == (frames,) and ids.dtype == np.int64
                assert ids[0] >= 0 and ids[-1] < n_frames and (np.diff(ids) >= 0).all()


def test_no_frames_is_an_error(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="out of 0"):
        dense(0, 16, 4, rng)
