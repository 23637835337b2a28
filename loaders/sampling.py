"""Which frames a view takes: pure functions of the clip's length, the stride and random numbers.

All return int64 indices into the clip as stored, (T,) or windows of them, non-decreasing, within 0..n_frames-1. Frames
are counted, never timed: of video with a variable frame rate the stored frames are taken as they follow each other.
Sections named are of the VideoMAE V2 facts: §3.3, temporal sampling, as the official code does it.
"""

import numpy as np


def dense(n_frames: int, frames: int, stride: int, rng: np.random.Generator) -> np.ndarray:
    """Pre-training: every ``stride``-th frame from a uniform start, no jitter (§3.3).

    A clip shorter than ``frames · stride`` starts at 0 and repeats the last frame reached, which, as in the official
    code, lies before the clip's last one: 16 frames at stride 4 give 0, 4, 8, 12, 12…, and 5 at stride 2 give 0, 2, 2….
    """
    _check(n_frames, frames, stride)
    steps_T = np.arange(frames) * stride
    span = frames * stride
    if n_frames >= span:
        return int(rng.integers(0, n_frames - span + 1)) + steps_T
    return np.minimum(steps_T, max(n_frames - 2, 0) // stride * stride)


def dense_aligned(n_frames: int, frames: int, stride: int, rng: np.random.Generator) -> np.ndarray:
    """``dense``, from a start that is a multiple of the stride (ours): there a rendition has its reference frames."""
    _check(n_frames, frames, stride)
    spare = n_frames - frames * stride
    if spare < 0:
        return dense(n_frames, frames, stride, rng)
    return (int(rng.integers(0, spare // stride + 1)) + np.arange(frames)) * stride


def linspace(n_frames: int, frames: int, stride: int, rng: np.random.Generator) -> np.ndarray:
    """Fine-tuning: ``frames`` points spread over a window of ``frames · stride``, ends included (§3.3).

    The step is therefore a little longer than the stride: 0, 4, 8, 12, 17, 21 … 63 for 16 frames at stride 4.
    """
    _check(n_frames, frames, stride)
    span = frames * stride
    if n_frames <= span:
        return _spread_short(n_frames, frames, stride)
    return _spread(int(rng.integers(span, n_frames)) - span, span, frames)


def centred(n_frames: int, frames: int, stride: int) -> np.ndarray:
    """Validation: the window of ``linspace`` in the middle of the clip."""
    _check(n_frames, frames, stride)
    span = frames * stride
    if n_frames <= span:
        return _spread_short(n_frames, frames, stride)
    return _spread((n_frames - span) // 2, span, frames)


def multi_view(n_frames: int, frames: int, stride: int, views: int) -> np.ndarray:
    """Testing: ``views`` windows of the strided frames, evenly from the first to the last, int64 (views, T) (§3.3).

    A single view lies in the middle. A clip that has too few strided frames repeats its last one.
    """
    _check(n_frames, frames, stride)
    if views < 1:
        raise ValueError(f"views must be at least 1, not {views}")
    strided = (n_frames + stride - 1) // stride
    spare = max(strided - frames, 0)
    starts_K = np.array([spare // 2]) if views == 1 else np.arange(views) * spare // (views - 1)
    return np.minimum(starts_K[:, None] + np.arange(frames), strided - 1) * stride


def segments(n_frames: int, frames: int, stride: int, rng: np.random.Generator) -> np.ndarray:
    """Training on Something-Something (TSN): a random frame of each of ``frames`` equal segments (§3.3).

    Segments have ``n_frames // frames`` frames, so that up to ``frames`` - 1 at the clip's end are never seen. A clip
    with fewer frames than segments repeats its first one at the front, as in the official code. The stride does not
    matter.
    """
    _check(n_frames, frames, stride)
    length = n_frames // frames
    if not length:
        return np.maximum(np.arange(n_frames - frames, n_frames), 0)
    return np.arange(frames) * length + rng.integers(length, size=frames)


def segment_centres(n_frames: int, frames: int, stride: int) -> np.ndarray:
    """Validation on Something-Something: the middle of each segment of ``segments``."""
    _check(n_frames, frames, stride)
    length = n_frames // frames
    if not length:
        return np.maximum(np.arange(n_frames - frames, n_frames), 0)
    return np.arange(frames) * length + length // 2


def segment_views(n_frames: int, frames: int, stride: int, views: int) -> np.ndarray:
    """Testing on Something-Something: ``views`` combs over the whole clip, int64 (views, T) (§3.3: two).

    The combs interlock: together they are ``views · frames`` points spread evenly over the clip, from its first frame.
    """
    _check(n_frames, frames, stride)
    if views < 1:
        raise ValueError(f"views must be at least 1, not {views}")
    points = np.arange(frames * views) * n_frames // (frames * views)
    return points.reshape(frames, views).T


def sliding_windows(n_frames: int, frames: int, step: int) -> np.ndarray:
    """Features for temporal detection: ``frames`` consecutive frames every ``step``, int64 (windows, T) (§4.6).

    As in the official code, with its steps of 4 and 16, no window passes the end, so up to ``step`` - 1 last frames may
    be in none. A clip of fewer than ``frames`` frames gives one window that repeats its last frame (ours: none there).
    """
    _check(n_frames, frames, step)
    starts_W = np.arange(0, max(n_frames - frames, 0) + 1, step)
    return np.minimum(starts_W[:, None] + np.arange(frames), n_frames - 1)


def _spread(start: int, span: int, frames: int) -> np.ndarray:
    end = start + span
    return np.clip(np.linspace(start, end, frames), start, end - 1).astype(np.int64)


def _spread_short(n_frames: int, frames: int, stride: int) -> np.ndarray:
    reached = min(n_frames // stride, frames)
    spread = np.concatenate([np.linspace(0, n_frames, reached), np.full(frames - reached, n_frames)])
    return np.clip(spread, 0, n_frames - 1).astype(np.int64)


def _check(n_frames: int, frames: int, stride: int) -> None:
    if n_frames < 1 or frames < 1 or stride < 1:
        raise ValueError(f"cannot take {frames} frames at stride {stride} out of {n_frames}")
