"""Decisions on hand-made facts: one clip for each reason, and the properties that hold whatever the order."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from warehouse import steps
from warehouse.config import Collection, Config, Source, Taxonomy, Training
from warehouse.curation.decisions import REASONS, decide
from warehouse.schema import BY_NAME
from warehouse.store import Store


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


def table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows that may lack columns, as the table of this name."""
    schema = BY_NAME[name].schema
    return pa.Table.from_pylist(list(rows), schema=pa.schema([field.with_nullable(True) for field in schema]))


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
GOOD = {"duration_ms": 5000, "width": 320, "height": 240, "fps": 25.0, "motion": 0.1, "brightness": 0.5}
GOOD |= {"picture_share": 1.0}


def file(clip: str, where: str, **facts: Any) -> dict[str, Any]:
    return {"clip_id": clip, "source": where, "status": "ok"} | GOOD | facts


BAD: dict[str, dict[str, Any]] = {
    "gone": {"status": "missing"}, "broken": {"status": "quarantined"}, "short": {"duration_ms": 500},
}  # fmt: skip
MEDIA = [file(m["clip_id"], m["source"], **BAD.get(m["clip_id"], {})) for m in MEMBERS]
CLIPS = [
    {"clip_id": m["clip_id"], "namespace": "youtube",
     "native_id": "tested" if m["clip_id"] == "same_video" else m["clip_id"]}
    for m in MEMBERS
]  # fmt: skip
EDGES = [edge("tested", "copy_of_tested"), edge("plain", "copy_of_plain"), edge("copy_of_plain", "copy_of_copy")]
PREFERRED = pa.chunked_array([list(dict.fromkeys(m["clip_id"] for m in MEMBERS))])


def decisions(
    members: list[dict[str, Any]],
    config: Config = CONFIG,
    media: list[dict[str, Any]] = MEDIA,
    taken_down: frozenset[str] = frozenset(),
) -> dict[tuple[str, str, str], tuple[str, str | None]]:
    rows = decide(
        config, table("clips", CLIPS), table("memberships", members), table("media", media),
        table("duplicate_edges", EDGES), PREFERRED, taken_down,
    ).to_pylist()  # fmt: skip
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


def under_paper() -> Config:
    everything, labelled = CONFIG.collections
    return replace(
        CONFIG,
        sources=tuple(replace(s, collections=("all", "labelled")) for s in CONFIG.sources),
        collections=(everything, replace(labelled, leakage="paper")),
    )


def test_the_rule_paper_deletes_the_evaluation_copy_of_a_video_in_training() -> None:
    """`tested` is in val of one source and in train of another: under `protect` training goes, here validation."""
    decided = decisions(MEMBERS, under_paper())
    of_tested = ("tested", "val"), ("tested", "train"), ("same_video", "train"), ("copy_of_tested", "train")
    assert [decided["labelled", *key] for key in of_tested] == [
        ("video_in_training", "tested"),
        ("kept", None),
        ("kept", None),
        ("duplicate", "tested"),  # no longer of a protected clip
    ]
    # Beside it a collection under `protect` is decided as ever.
    assert {k: v for k, v in decided.items() if k[0] == "all"} == {
        k: v for k, v in decisions(MEMBERS).items() if k[0] == "all"
    }


def test_the_rule_paper_keeps_validation_whose_training_copy_cannot_be_used_and_guards_it() -> None:
    unusable = [row | {"status": "missing"} if row["clip_id"] == "same_video" else row for row in MEDIA]
    members = [m for m in MEMBERS if m != member("tested", "b")]
    decided = decisions(members, under_paper(), unusable)
    assert decided["labelled", "tested", "val"] == ("kept", None)
    assert decided["labelled", "copy_of_tested", "train"] == ("duplicate_of_protected", "tested")


FILTERS = [
    ({"max_duration_ms": 5000}, {"duration_ms": 5001}, "too_long"),
    ({"min_short_side": 240}, {"width": 239}, "too_small"),
    ({"min_fps": 25.0}, {"fps": 24.9}, "low_frame_rate"),
    ({"min_motion": 0.1}, {"motion": 0.09}, "static"),
    ({"min_brightness": 0.5}, {"brightness": 0.49}, "black"),
    ({"min_picture_share": 1.0}, {"picture_share": 0.9}, "letterboxed"),
]


@pytest.mark.parametrize(("threshold", "score", "reason"), FILTERS)
def test_thresholds_drop_what_is_beyond_keep_what_is_on_them_and_pass_null(
    threshold: dict[str, Any], score: dict[str, Any], reason: str
) -> None:
    config = replace(CONFIG, collections=(replace(CONFIG.collections[0], **threshold),))
    # `plain` has two files: that of the first source is judged.
    media = [row | score if (row["clip_id"], row["source"]) == ("plain", "a") else row for row in MEDIA]
    [unknown] = score
    media = [row | {unknown: None} if row["clip_id"] == "copy_of_copy" else row for row in media]
    decided = decisions(MEMBERS, config, media)
    assert decided["all", "plain", "train"] == (reason, None)
    assert decided["all", "nameless", "train"] == ("kept", None)
    assert decided["all", "copy_of_copy", "train"] == ("duplicate", "copy_of_plain")  # for which no other is kept now


TAKEN = frozenset({"plain", "gone", "tested"})


def test_a_clip_taken_down_is_in_no_collection_and_no_clip_is_out_as_its_copy() -> None:
    before, decided = decisions(MEMBERS), decisions(MEMBERS, taken_down=TAKEN)
    assert {key: value for key, value in decided.items() if before[key] != value} == {
        key: ("taken_down", None) for key in before if key[1] in TAKEN
    } | {
        ("all", "copy_of_plain", "train"): ("kept", None),  # which is why a takedown lists the copies
        ("all", "copy_of_copy", "train"): ("duplicate", "copy_of_plain"),
    }
    # What a model was measured on stays out of training: earlier scores are not to become unclean.
    assert decided["all", "copy_of_tested", "train"] == ("duplicate_of_protected", "tested")


def test_every_reason_is_given_by_some_test() -> None:
    tried = decisions(MEMBERS), decisions(MEMBERS, under_paper()), decisions(MEMBERS, taken_down=TAKEN)
    given = {reason for decided in tried for reason, _ in decided.values()} | {reason for *_, reason in FILTERS}
    assert given == set(REASONS)


def write_tables(root: Path, config: Config) -> tuple[Store, Config]:
    """The hand-made facts as Parquet files, and the configuration with them as its data root."""
    store, config = Store(root), replace(config, data_root=root)
    for source in config.sources:
        of_source = [m for m in MEMBERS if m["source"] == source.name]
        own = {m["clip_id"] for m in of_source}
        full = {"annotation_file": "a.csv", "annotation_row": 1, "licence": "none", "start_ms": None, "end_ms": None}
        store.write("memberships", [full | m for m in of_source], source.name)
        store.write("clips", [full | c for c in CLIPS if c["clip_id"] in own], source.name)
        media = {row["clip_id"]: row for row in MEDIA if row["source"] == source.name}
        store.write("media", media.values(), source.name)
    store.write("duplicate_edges", EDGES)
    return store, config


def test_a_changed_threshold_rewrites_decisions_alone(tmp_path: Path) -> None:
    """The step itself, on a store without a single media file: whatever decoded again would fail."""
    store, config = write_tables(tmp_path, CONFIG)
    steps.decide(store, config)
    before = {path: path.stat().st_mtime_ns for path in store.tables.rglob("*.parquet")}
    assert steps.decide(store, config).skipped

    darker = replace(config, collections=(replace(config.collections[0], min_brightness=0.6), config.collections[1]))
    assert not steps.decide(store, darker).skipped
    after = {path: path.stat().st_mtime_ns for path in store.tables.rglob("*.parquet")}
    assert {path.stem for path in after if after[path] != before.get(path)} == {"decisions", "collections"}
    reasons = {(r["collection"], r["reason"]) for r in store.rows("decisions") if r["clip_id"] == "plain"}
    assert reasons == {("all", "black"), ("labelled", "kept")}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_decides_nothing(seed: int) -> None:
    shuffled = random.Random(seed).sample(MEMBERS, len(MEMBERS))
    assert decisions(shuffled) == decisions(MEMBERS)


@pytest.mark.parametrize("rule", ["protect", "paper"])
def test_random_copies_leave_no_leak_and_every_removed_clip_repeats_one_that_is_in(rule: str) -> None:
    rng = random.Random(7)
    clips = [f"clip{i:03d}" for i in range(300)]
    video = {clip: f"video{rng.randrange(250)}" for clip in clips}
    members = [member(clip, "a", "val" if rng.random() < 0.2 else "train") for clip in clips]
    edges = [edge(*rng.sample(clips, 2)) for _ in range(400)]
    media = [file(clip, "a") for clip in clips]
    worlds = [{"clip_id": clip, "namespace": "youtube", "native_id": video[clip]} for clip in clips]
    preferred = pa.chunked_array([rng.sample(clips, len(clips))])
    everything, labelled = CONFIG.collections
    rows = decide(
        replace(CONFIG, collections=(everything, replace(labelled, leakage=rule))), table("clips", worlds),
        table("memberships", members), table("media", media), table("duplicate_edges", edges), preferred,
    ).to_pylist()  # fmt: skip
    linked = {frozenset((e["clip_a"], e["clip_b"])) for e in edges}
    chosen = {row["clip_id"]: row for row in rows if row["collection"] == "labelled"}
    kept, evaluated = ({c for c, r in chosen.items() if r["keep"] and r["split"] == s} for s in ("train", "val"))
    assert len(kept) > 20 and len(evaluated) > 20
    for pair in linked:
        assert not (pair <= kept), "two copies kept"
        assert not (pair & kept and pair & evaluated), "a copy of a clip that is evaluated kept"
    assert not {video[clip] for clip in kept} & {video[clip] for clip in evaluated}
    for clip, row in chosen.items():
        other = row["other_clip_id"]
        if row["reason"] in ("protected_split", "video_in_training"):
            assert video[clip] == video[other] and chosen[other]["split"] != row["split"]
        elif not row["keep"]:
            assert frozenset((clip, other)) in linked and other in kept | evaluated
    by_rule = {"protect": "protected_split", "paper": "video_in_training"}
    assert {r["reason"] for r in chosen.values()} == {"kept", "duplicate", "duplicate_of_protected", by_rule[rule]}
