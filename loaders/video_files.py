"""Videos that are in no collection as samples: each is stored in a shard of its own, as a run would store it.

So a view of a file is what training and evaluation see of the same clip: the file's own bytes where they meet the
default rendition, else encoded to it, upright, in its size and colours.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from warehouse.catalog.sample import Sample
from warehouse.curation.probe import probe_and_hash
from warehouse.engine import Failure, map_unordered
from warehouse.media_file import MediaFile
from warehouse.shards.errors import RenditionError, ShardError
from warehouse.shards.rendition import stored_stride
from warehouse.shards.shard_plan import MEDIA_KEYS, Member, ShardPlan
from warehouse.shards.writer import write_shards

RENDITION = "np256"
"""What is stored of a source unless ``sources.toml`` says otherwise."""
SECONDS_A_VIDEO = 600.0
_SOURCE = "files"
_REMEDIES = {
    "missing_file": "Check the path",
    "unreadable_file": "Check its permissions, and the disk",
    "no_video_stream": "Give a file with video in it",
    "encrypted": "Get a copy without protection",
    "too_large": "Scale the video down",
    "decoder_hung": "Cut the video into clips",
}
_OTHERWISE = "Fetch it again, or write it anew with ffmpeg if a player can show it"


class VideoFileError(Exception):
    """A file that cannot be used as a video; the message names it and says what to do."""


def stored_videos(paths: Sequence[Path], stride: int, folder: Path) -> Iterator[tuple[Path, Sample | VideoFileError]]:
    """The videos in order, each with its sample, or with what is wrong with it; the others go on.

    They are probed and stored in a process of their own, which may crash or hang.

    Args:
        stride: frames from one sampled frame to the next, as in ``sources.toml``.
        folder: where shards are written: empty, and to be kept as long as the samples are.
    """
    items = [(number, path, stride, folder) for number, path in enumerate(paths)]
    for [item], [result] in map_unordered(_store, ([item] for item in items), workers=1, timeout_s=SECONDS_A_VIDEO):
        if isinstance(result, Failure):
            result = f"{result.error_class}: {result.detail}. {_remedy(result.error_class)}"
        yield item[1], result if isinstance(result, Sample) else VideoFileError(f"{item[1]}: {result}")


def _store(items: Sequence[tuple[int, Path, int, Path]]) -> list[Sample | str]:
    return [_stored(*item) for item in items]


def _stored(number: int, path: Path, stride: int, folder: Path) -> Sample | str:
    """The sample, or in words why there is none."""
    if path.is_dir():
        return "is a folder. Name the video files in it; of a folder of frames make a video first"
    media = MediaFile(str(path.absolute()))
    found = probe_and_hash(media).media
    if found["status"] != "ok":
        return f"{found['error_class']} ({found['detail'] or 'nothing there'}). {_remedy(found['error_class'])}"
    clip_id = f"{number:06d}"
    member = Member(clip_id, media, True, **{key: found[key] for key in MEDIA_KEYS})
    plan = ShardPlan(str(folder), clip_id, _SOURCE, RENDITION, stride, (member,))
    try:
        [sidecar] = write_shards([plan])
    except (RenditionError, ShardError) as error:
        return f"cannot be stored: {error}"
    [clip] = sidecar.members
    return Sample(
        clip_id, _SOURCE, "test", None, 1.0, stored_stride(RENDITION, stride), plan.tar, clip.offset, clip.size,
        clip.sha256, clip.codec, clip.fps, clip.frames, clip.width, clip.height,
    )  # fmt: skip


def _remedy(error_class: str) -> str:
    return _REMEDIES.get(error_class, _OTHERWISE)
