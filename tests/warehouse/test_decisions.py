"""Decisions on hand-made facts: one clip for each reason, and the properties that hold whatever the order."""

import random
from pathlib import Path
from typing import Any

import pytest

from warehouse.config import Collection, Config, Source, Taxonomy, Training
from warehouse.curation.decisions import REASONS, decide, gather_facts


def source(name: str, priority: int, collections: tuple[str, ...]) -> Source:
    return Source(
        name=name, kind="kinetics", media_root=Path("/nowhere"), annotations={}, collections=collections, stride=4,
        licence="none", namespace="youtube", priority=priority, columns={}, splits={}, where={},
    )  # fmt: skip


CONFIG = Config(
    path=Path("sources.toml"),
    data_root=Path("data"),
    rendition="np256",
    sources=(source("a", 0, ("all", "labelled")), source("b", 1, ("all",))),
    collections=(
        Collection("all", ("train",), None, min_duration_ms=1000),
        Collection("labelled", ("train", "val"), "classes", min_duration_ms=0),
    ),
    taxonomies=(Taxonomy("classes", {}),),
    training=Training("smoke", "all", "labelled", "labelled"),
    workers=1,
)


def member(clip: str, where: str, split: str = "train", label: str | None = "x") -> dict[str, Any]:
    return {"clip_id": clip, "source": where, "split": split, "label": label}


def edge(a: str, b: str) -> dict[str, Any]:
    first, second = sorted((a, b))
    return {"clip_a": first, "clip_b": second, "kind": "near"}


MEMBERS = [
    member("plain", "a"),
    member("plain", "b"),  # listed twice: one decision in `all`
    member("gone", "a"),
    member("broken", "a"),
    member("nameless", "a", label=None),
    member("short", "a"),
    member("tested", "a", "val"),
    member("tested", "b", "train"),  # validation in one source, training in the other
    member("same_video", "b"),  # other seconds of the video of `tested`
    member("copy_of_tested", "b"),
    member("copy_of_plain", "b"),
    member("copy_of_copy", "b"),  # repeats copy_of_plain alone, which is out: it stays
]
MEDIA = [
    {"clip_id": m["clip_id"], "status": {"gone": "missing", "broken": "quarantined"}.get(m["clip_id"], "ok"),
     "duration_ms": 500 if m["clip_id"] == "short" else 5000}
    for m in MEMBERS
]  # fmt: skip
CLIPS = [
    {"clip_id": m["clip_id"], "namespace": "youtube",
     "native_id": "tested" if m["clip_id"] == "same_video" else m["clip_id"]}
    for m in MEMBERS
]  # fmt: skip
EDGES = [edge("tested", "copy_of_tested"), edge("plain", "copy_of_plain"), edge("copy_of_plain", "copy_of_copy")]
RANK = {m["clip_id"]: rank for rank, m in reversed(list(enumerate(MEMBERS)))}


def decisions(members: list[dict[str, Any]]) -> dict[tuple[str, str, str], tuple[str, str | None]]:
    facts = gather_facts(CLIPS, members, MEDIA, EDGES, RANK)
    rows = decide(CONFIG, members, facts)
    assert all(row["keep"] == (row["reason"] == "kept") for row in rows)
    keyed = {(r["collection"], r["clip_id"], r["split"]): (r["reason"], r["other_clip_id"]) for r in rows}
    assert len(keyed) == len(rows)
    return keyed


def test_each_reason_is_given_where_it_applies() -> None:
    decided = decisions(MEMBERS)
    assert {key[1:]: value for key, value in decided.items() if key[0] == "all"} == {
        ("plain", "train"): ("kept", None),
        ("gone", "train"): ("missing_file", None),
        ("broken", "train"): ("unreadable", None),
        ("nameless", "train"): ("kept", None),
        ("short", "train"): ("too_short", None),
        ("tested", "val"): ("split_not_taken", None),
        ("tested", "train"): ("protected_split", "tested"),
        ("same_video", "train"): ("protected_split", "tested"),
        ("copy_of_tested", "train"): ("duplicate_of_protected", "tested"),
        ("copy_of_plain", "train"): ("duplicate", "plain"),
        ("copy_of_copy", "train"): ("kept", None),
    }
    assert decided["labelled", "nameless", "train"] == ("unlabelled", None)
    assert decided["labelled", "short", "train"] == ("kept", None)
    assert decided["labelled", "tested", "val"] == ("kept", None)
    assert {reason for reason, _ in decided.values()} == set(REASONS)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_decides_nothing(seed: int) -> None:
    shuffled = random.Random(seed).sample(MEMBERS, len(MEMBERS))
    assert decisions(shuffled) == decisions(MEMBERS)


def test_random_copies_leave_no_leak_and_every_removed_clip_has_an_edge_to_a_kept_one() -> None:
    rng = random.Random(7)
    clips = [f"clip{i:03d}" for i in range(300)]
    members = [member(clip, "a", "val" if rng.random() < 0.2 else "train") for clip in clips]
    edges = [edge(*rng.sample(clips, 2)) for _ in range(400)]
    media = [{"clip_id": clip, "status": "ok", "duration_ms": 5000} for clip in clips]
    worlds = [{"clip_id": clip, "namespace": "youtube", "native_id": clip} for clip in clips]
    rank = {clip: place for place, clip in enumerate(rng.sample(clips, len(clips)))}
    rows = decide(CONFIG, members, gather_facts(worlds, members, media, edges, rank))
    linked = {frozenset((e["clip_a"], e["clip_b"])) for e in edges}
    protected = {m["clip_id"] for m in members if m["split"] == "val"}
    chosen = [row for row in rows if row["collection"] == "labelled" and row["split"] == "train"]
    kept = {row["clip_id"] for row in chosen if row["keep"]}
    assert len(kept) > 20
    for pair in linked:
        assert not (pair <= kept), "two copies kept"
        assert not (pair & kept and pair & protected), "a copy of a protected clip kept"
    for row in chosen:
        if not row["keep"]:
            assert frozenset((row["clip_id"], row["other_clip_id"])) in linked
            assert row["other_clip_id"] in kept | protected
