"""Decisions: a clip that a source lists is kept in, or dropped from, each collection the source feeds, with a reason.

Nothing is deleted: a decision is a row, and taking it again costs no decoding.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from warehouse.config import Collection, Config

RULE_VERSION = 1
PROTECTED_SPLITS = frozenset({"val", "test"})
REASONS: dict[str, str] = {
    "kept": "the clip is in the collection",
    "missing_file": "no source has the media file",
    "unreadable": "every media file of the clip is quarantined (`media.error_class` says why)",
    "split_not_taken": "the collection does not take this split",
    "unlabelled": "the collection is labelled and no source of it names the clip's class",
    "too_short": "shorter than the collection's `min_duration_s`",
    "protected_split": "training, but the same video is in validation or test of some source",
    "duplicate_of_protected": "training, but the content repeats a validation or test clip",
    "duplicate": "training, and the content repeats a clip that is kept",
}


@dataclass
class Facts:
    """What the decisions rest on, for all sources together, by clip id.

    ``neighbours`` are the clips that a verified edge of ``duplicate_edges`` ties to a clip; ``preference`` sorts the
    copy to keep first; ``video`` is (namespace, native id).
    """

    status: dict[str, str] = field(default_factory=dict)
    duration_ms: dict[str, int] = field(default_factory=dict)
    video: dict[str, tuple[str, str]] = field(default_factory=dict)
    protected: set[str] = field(default_factory=set)
    neighbours: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    preference: Mapping[str, Any] = field(default_factory=dict)


def protected_clips(memberships: Iterable[Mapping[str, Any]]) -> set[str]:
    """Ids of the clips that are in validation or test of any source."""
    return {row["clip_id"] for row in memberships if row["split"] in PROTECTED_SPLITS}


def gather_facts(
    clips: Iterable[Mapping[str, Any]],
    memberships: Iterable[Mapping[str, Any]],
    media: Iterable[Mapping[str, Any]],
    edges: Iterable[Mapping[str, Any]],
    preference: Mapping[str, Any],
) -> Facts:
    """Collect :class:`Facts` from rows of the tables. A clip with a readable file in any source is readable."""
    facts = Facts(preference=preference)
    rank = {"ok": 0, "quarantined": 1, "missing": 2}
    for row in media:
        known = facts.status.get(row["clip_id"])
        if known is None or rank[row["status"]] < rank[known]:
            facts.status[row["clip_id"]] = row["status"]
        if row["status"] == "ok":
            facts.duration_ms[row["clip_id"]] = row["duration_ms"]
    for row in clips:
        facts.video[row["clip_id"]] = (row["namespace"], row["native_id"])
    facts.protected = protected_clips(memberships)
    for row in edges:
        facts.neighbours[row["clip_a"]].append(row["clip_b"])
        facts.neighbours[row["clip_b"]].append(row["clip_a"])
    return facts


def decide(config: Config, memberships: Iterable[Mapping[str, Any]], facts: Facts) -> list[dict[str, Any]]:
    """Rows of ``decisions``: one for each (collection, clip, split) that the collection's sources list."""
    memberships = list(memberships)
    rows = []
    for collection in config.collections:
        rows += _decide_collection(config, collection, memberships, facts)
    return rows


def _decide_collection(
    config: Config, collection: Collection, memberships: list[Mapping[str, Any]], facts: Facts
) -> list[dict[str, Any]]:
    priority = {s.name: s.priority for s in config.sources if collection.name in s.collections}
    members = sorted(
        (m for m in memberships if m["source"] in priority), key=lambda m: (priority[m["source"]], m["clip_id"])
    )
    labelled = {m["clip_id"] for m in members if m["label"] is not None}
    first: dict[tuple[str, str], str] = {}
    for member in members:
        first.setdefault((member["clip_id"], member["split"]), member["source"])

    # Copies are compared in order of preference, so that what a clip is dropped for has already been kept.
    order = sorted(first, key=lambda key: (facts.preference[key[0]], key))
    protected_videos = {facts.video[clip]: clip for clip in sorted(facts.protected, reverse=True)}
    kept_training: set[str] = set()
    rows = []
    for clip, split in order:
        reason, other = _unusable(collection, clip, split, labelled, facts), None
        if reason is None and split == "train":
            reason, other = _repeats(clip, protected_videos, kept_training, facts)
            if reason is None:
                kept_training.add(clip)
        rows.append(
            {
                "collection": collection.name,
                "clip_id": clip,
                "source": first[clip, split],
                "split": split,
                "keep": reason is None,
                "reason": reason or "kept",
                "other_clip_id": other,
                "rule_version": RULE_VERSION,
            }
        )
    return sorted(rows, key=lambda row: (row["clip_id"], row["split"]))


def _unusable(collection: Collection, clip: str, split: str, labelled: set[str], facts: Facts) -> str | None:
    """Why the clip alone, whatever the others are, cannot be in the collection's split."""
    status = facts.status[clip]
    if status != "ok":
        return "missing_file" if status == "missing" else "unreadable"
    if split not in collection.splits:
        return "split_not_taken"
    if collection.taxonomy is not None and clip not in labelled:
        return "unlabelled"
    if facts.duration_ms[clip] < collection.min_duration_ms:
        return "too_short"
    return None


def _repeats(
    clip: str, protected_videos: Mapping[tuple[str, str], str], kept: set[str], facts: Facts
) -> tuple[str | None, str | None]:
    """Reason and other clip if a training clip repeats a protected clip, or one that is kept."""
    same_video = protected_videos.get(facts.video[clip])
    if same_video is not None:
        return "protected_split", same_video
    copies = sorted(facts.neighbours.get(clip, ()), key=lambda other: (facts.preference[other], other))
    for other in copies:
        if other in facts.protected:
            return "duplicate_of_protected", other
    for other in copies:
        if other in kept:
            return "duplicate", other
    return None, None
