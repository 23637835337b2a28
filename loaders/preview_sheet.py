"""The sheet of a preview as a picture: for each clip its stored frames, and below them what a model sees of these."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from loaders.preview import ClipPreview, described, mixed_example

CELL = 96  # pixels of a frame's square; views that are smaller are shown enlarged
GAP, MARGIN = 2, 12
LABEL = 250  # width of the words beside the frames
LINE, TEXT, CLASS, HEADING = 14, 11, 13, 15
PAPER, INK, FAINT = (255, 255, 255), (25, 25, 25), (120, 120, 120)
# Of each view's box in the stored frames, and of its name; more views begin again.
COLOURS = ((214, 39, 40), (31, 119, 180), (44, 140, 44), (230, 120, 0))
_FONT = "sans"  # OpenCV brings it along, with letters beyond ASCII


def sheet(
    title: Sequence[str], sections: Mapping[str, Sequence[ClipPreview]], names: Mapping[int | None, str]
) -> np.ndarray:
    """The whole sheet, RGB, uint8 (height, width, 3).

    Args:
        title: lines at the top.
        sections: the clips of each source, under what the sheet says of it.
        names: of the classes, by number.
    """
    shown = [clip for clips in sections.values() for clip in clips]
    steps = max((len(clip.stored) for clip in shown if clip.stored is not None), default=1)
    width = 2 * MARGIN + LABEL + steps * (CELL + GAP)
    complete = [clip for clip in shown if clip.seen is not None]
    rows = [_words(title, width, INK, HEADING, LINE + 6)]
    for heading, clips in sections.items():
        rows.append(_rule(width))
        rows.append(_words([heading], width, INK, HEADING, LINE + 6))
        for clip in clips:
            partner = complete[-1 - complete.index(clip)] if clip in complete else None
            rows += _clip(clip, partner, names, width)
    return np.vstack([*rows, _blank(MARGIN, width)])


def _clip(
    clip: ClipPreview, partner: ClipPreview | None, names: Mapping[int | None, str], width: int
) -> list[np.ndarray]:
    sample = clip.sample
    about = (
        f"{sample.frames} frames of {sample.width} × {sample.height}, {sample.fps:.3g} a second, stride {sample.stride}"
    )
    rows = [
        _blank(LINE // 2, width),
        _words([names[sample.class_id]], width, INK, CLASS),
        _words([f"{sample.clip_id}: {about}"], width, FAINT),
    ]
    if clip.stored is None or clip.seen is None:
        return [*rows, _words(clip.error.splitlines(), width, COLOURS[0])]
    boxed = [_boxed(frame, clip) for frame in clip.stored]
    rows.append(_row(["stored frames of view 1, with boxes"], boxed, width, FAINT))
    for number, (view, pixels) in enumerate(zip(clip.views, clip.seen, strict=True)):
        words = [f"view {number + 1}", *described(view)]
        rows.append(_row(words, _cells(pixels), width, _colour(number)))
    if clip.mix is not None and partner is not None and partner.seen is not None:
        how = "mixup" if clip.mix.box is None else "cutmix"
        other = names[partner.sample.class_id]
        words = [
            "view 1 mixed, for example",
            f"{how}: {clip.mix.share:.0%} is its own",
            f"{1 - clip.mix.share:.0%} {other}",
        ]
        rows.append(_row(words, _cells(mixed_example(clip.seen[0], partner.seen[0], clip.mix)), width, INK))
    return rows


def _boxed(frame: np.ndarray, clip: ClipPreview) -> np.ndarray:
    """A stored frame with the boxes of the views, in the size of a cell."""
    height, width = frame.shape[:2]
    scale = CELL / max(height, width)
    fitted = cv2.resize(
        frame, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    for number, view in reversed(list(enumerate(clip.views))):
        box = view.box
        corners = [(box.left, box.top), (box.left + box.width, box.top + box.height)]
        (left, top), (right, bottom) = ((round(x * scale), round(y * scale)) for x, y in corners)
        cv2.rectangle(fitted, (left, top), (right - 1, bottom - 1), _colour(number), 1)
    return fitted


def _cells(pixels_TSS3: np.ndarray) -> list[np.ndarray]:
    shrinks = pixels_TSS3.shape[1] > CELL
    how = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    return [cv2.resize(pixels, (CELL, CELL), interpolation=how) for pixels in pixels_TSS3]


def _row(
    words: Sequence[str], frames: Sequence[np.ndarray] | np.ndarray, width: int, colour: Sequence[int]
) -> np.ndarray:
    """Words at the left, and frames beside them from left to right."""
    lines = [line for text in words for line in _folded(text, LABEL - 8)]
    height, breadth = frames[0].shape[:2]
    row = _blank(max(height, len(lines) * LINE) + GAP, width)
    for number, line in enumerate(lines):
        _write(row, line, MARGIN, (number + 1) * LINE - 2, colour if number == 0 else INK)
    for step, frame in enumerate(frames):
        left = MARGIN + LABEL + step * (CELL + GAP)
        row[:height, left : left + breadth] = frame
    return row


def _words(lines: Sequence[str], width: int, colour: Sequence[int], text: int = TEXT, line: int = LINE) -> np.ndarray:
    folded = [part for words in lines for part in _folded(words, width - 2 * MARGIN, text)]
    row = _blank(len(folded) * line + 4, width)
    for number, words in enumerate(folded):
        _write(row, words, MARGIN, (number + 1) * line - 2, colour, text)
    return row


def _folded(words: str, width: int, text: int = TEXT) -> list[str]:
    """Words broken into lines of no more than so many pixels."""
    lines = [""]
    for word in words.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and _breadth(longer, text) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _breadth(words: str, text: int) -> int:
    _, _, breadth, _ = cv2.getTextSize((0, 0), words, (0, 0), cv2.FontFace(_FONT), text)
    return int(breadth)


def _write(row: np.ndarray, words: str, left: int, baseline: int, colour: Sequence[int], text: int = TEXT) -> None:
    cv2.putText(row, words, (left, baseline), colour, cv2.FontFace(_FONT), text)


def _rule(width: int) -> np.ndarray:
    row = _blank(MARGIN, width)
    row[MARGIN // 2, MARGIN:-MARGIN] = FAINT
    return row


def _blank(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), PAPER, np.uint8)


def _colour(number: int) -> tuple[int, int, int]:
    return COLOURS[number % len(COLOURS)]
