"""Shard plans of a few clips for the tests of this folder, from files that are really probed."""

from pathlib import Path

from warehouse.curation.probe import probe_and_hash
from warehouse.media_file import MediaFile
from warehouse.shards.shard_plan import MEDIA_KEYS, Member, ShardPlan


def member(clip_id: str, media: MediaFile) -> Member:
    found = probe_and_hash(media).media
    assert found["status"] == "ok"
    return Member(clip_id, media, True, **{key: found[key] for key in MEDIA_KEYS})


def plan(folder: Path, clips: list[Path], rendition: str, stride: int = 4) -> ShardPlan:
    members = tuple(member(f"{i:032x}", MediaFile(str(clip))) for i, clip in enumerate(clips))
    return ShardPlan(str(folder), "shard-0", "src", rendition, stride, members)
