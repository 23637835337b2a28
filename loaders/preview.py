"""What a model is about to see: of each source the first clips of a stage's order, with what is done to them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from loaders.augment import Box
from loaders.decode import DecodeError, decode_frames
from loaders.mixing import Mix, draw_mix, mix_frames
from loaders.order import Cursor, Draw
from loaders.randaugment import Operation
from loaders.stream import stream_order
from loaders.views import (
    EvaluationConfig,
    LoaderConfig,
    View,
    evaluation_views,
    render_views,
    training_views,
)
from warehouse.catalog.samples import Sample, Tombstone, order_columns
from warehouse.shards.errors import ShardError
from warehouse.shards.reader import read_sample


@dataclass(frozen=True, eq=False)
class ClipPreview:
    """A clip as a stage takes it; or why it cannot be shown.

    Attributes:
        views: what is taken.
        stored: the frames of the first view as they are stored, uint8 (T, height, width, 3).
        seen: the views' pixels, uint8 (V, T, S, S, 3).
        mix: an example of how its batch may be mixed.
        error: names clip and shard, and the rest is empty.
    """

    sample: Sample
    views: tuple[View, ...] = ()
    stored: np.ndarray | None = None
    seen: np.ndarray | None = None
    mix: Mix | None = None
    error: str = ""


def previews(
    places: Sequence[Sample | Tombstone], config: LoaderConfig | EvaluationConfig, clips: int
) -> dict[str, list[ClipPreview]]:
    """The first ``clips`` clips of each source, in the order in which training takes them from its start (an
    evaluation: of the list). Sources in the order of the places; one that is never drawn has none."""
    columns = order_columns(places)
    wanted: dict[str, list[tuple[Sample, Draw]]] = {name: [] for name in columns.source_names if name}
    missing = set(wanted)
    for draw in _order(places, config):
        place, name = draw.index, columns.source_names[columns.source[draw.index]]
        if name not in missing or columns.gone[place]:
            continue
        sample = places[place]
        assert isinstance(sample, Sample)
        wanted[name].append((sample, draw))
        if len(wanted[name]) == clips:
            missing.discard(name)
            if not missing:
                break
    return {name: [preview(sample, draw, config) for sample, draw in drawn] for name, drawn in wanted.items()}


def _order(places: Sequence[Sample | Tombstone], config: LoaderConfig | EvaluationConfig) -> Iterator[Draw]:
    """The first epoch of training, or the list that is scored."""
    if isinstance(config, LoaderConfig):
        yield from islice(stream_order(places, config, 0, 1, None), len(places))
    else:
        yield from (Draw(0, place, place, Cursor(0, place + 1)) for place in range(len(places)))


def preview(sample: Sample, draw: Draw, config: LoaderConfig | EvaluationConfig) -> ClipPreview:
    """A clip as it is drawn."""
    try:
        data = read_sample(sample)
        if isinstance(config, LoaderConfig):
            views, mix = training_views(config, sample, draw), draw_mix(config, 0, draw.after)
        else:
            views, mix = evaluation_views(config, sample), None
        seen = np.empty((len(views), config.frames, config.size, config.size, 3), np.uint8)
        render_views(sample, data, views, seen)
        stored = dict(decode_frames(sample, data, set(views[0].frame_ids.tolist())))
    except (ShardError, DecodeError) as error:
        return ClipPreview(sample, error=str(error))
    frames = np.stack([stored[index] for index in views[0].frame_ids.tolist()])
    return ClipPreview(sample, views, frames, seen, mix)


def mixed_example(own: np.ndarray, other: np.ndarray, mix: Mix) -> np.ndarray:
    """A view mixed with one of another clip, uint8 (T, S, S, 3)."""
    frames = mix_frames(torch.from_numpy(np.stack([own, other])), mix)[0]
    return frames.round().to(torch.uint8).numpy()


def described(view: View) -> list[str]:
    """What is done in a view, in words, a line each."""
    ids = view.frame_ids.tolist()
    shown = [str(index) for index in ids]
    box = view.box
    lines = [f"frames {', '.join(shown if len(ids) < 5 else [*shown[:3], '…', shown[-1]])}", _box(box, view.flip)]
    lines += [_in_words(operation) for operation in view.operations]
    if view.erased is not None:
        lines.append(f"erased {view.erased.box.width} × {view.erased.box.height}")
    return lines


def _box(box: Box, flip: bool) -> str:
    return f"{box.width} × {box.height} from ({box.left}, {box.top}){', mirrored' if flip else ''}"


def _in_words(operation: Operation) -> str:
    value = operation.value
    if operation.name == "rotate":
        return f"rotated by {abs(value):.0f}° {'anticlockwise' if value > 0 else 'clockwise'}"
    if operation.name == "translate_x":
        return f"moved {'left' if value > 0 else 'right'} by {abs(value):.0%}"
    if operation.name == "translate_y":
        return f"moved {'up' if value > 0 else 'down'} by {abs(value):.0%}"
    return _IN_WORDS[operation.name].format(value)


_IN_WORDS = {
    "autocontrast": "autocontrast",
    "equalize": "equalized",
    "invert": "inverted",
    "posterize": "posterized to {:.0f} bits",
    "solarize": "solarized from {:.0f}",
    "solarize_add": "solarized by adding {:.0f}",
    "color": "color × {:.2f}",
    "contrast": "contrast × {:.2f}",
    "brightness": "brightness × {:.2f}",
    "sharpness": "sharpness × {:.2f}",
    "shear_x": "sheared along x by {:.2f}",
    "shear_y": "sheared along y by {:.2f}",
}
