"""Copies are found whatever was done to them, and what only looks alike is not."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from rendered_clips import FPS, drifting, read, write

from warehouse.curation.duplicates import clusters, find_duplicates, preference
from warehouse.curation.perceptual import BUCKET_CAP
from warehouse.curation.probe import probe_unit
from warehouse.schema import BY_NAME

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "ut_interaction"


def table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    columns = BY_NAME[name].schema.names
    filled = [dict.fromkeys(columns) | row for row in rows]
    return pa.Table.from_pylist(filled, schema=BY_NAME[name].schema)


def find(
    media: list[dict[str, Any]],
    hashes: list[dict[str, Any]],
    *,
    clips: list[dict[str, Any]] | None = None,
    protected: tuple[str, ...] = (),
) -> tuple[dict[tuple[str, str], list[dict[str, Any]]], pa.Table]:
    """Edges by pair, and the table of clusters. Source ``a`` comes before ``b``."""
    ids = sorted({row["clip_id"] for row in media})
    edges, found = find_duplicates(
        table("clips", clips or [{"clip_id": i, "namespace": "n", "native_id": i} for i in ids]),
        table("memberships", [{"clip_id": row["clip_id"], "source": row["source"], "split": "train"} for row in media]),
        table("media", media),
        table("frame_hashes", hashes),
        priority={"a": 0, "b": 1},
        protected=protected,
    )
    by_pair: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for edge in edges.to_pylist():
        assert edge["clip_a"] < edge["clip_b"]
        by_pair.setdefault((edge["clip_a"], edge["clip_b"]), []).append(edge)
    assert edges.schema == BY_NAME["duplicate_edges"].schema
    assert found.schema == BY_NAME["duplicate_clusters"].schema
    return by_pair, found


def probed(paths: Mapping[str, Path]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    media, hashes = [], []
    for row, frames in probe_unit([(clip, "a", str(path)) for clip, path in paths.items()]):
        assert row["status"] == "ok", row
        media.append(row)
        hashes += frames
    return media, hashes


def edited(name: str, frames: list[np.ndarray], fps: float, folder: Path) -> dict[str, Path]:
    """Copies of a clip, by ``NAME.EDIT``. The trimmed one starts off the sampling grid."""
    height, width = frames[0].shape[:2]
    bar = height // 16 * 2
    cut = round(0.37 * fps)
    copies = {
        "encoded": (frames, 33),
        "resized": ([cv2.resize(f, (width * 3 // 8 * 2, height * 3 // 8 * 2), interpolation=cv2.INTER_AREA)
                     for f in frames], 23),
        "trimmed": (frames[cut : cut + round(0.6 * len(frames))], 23),
        "barred": ([cv2.copyMakeBorder(f, bar, bar, 0, 0, cv2.BORDER_CONSTANT) for f in frames], 23),
        "mirrored": ([f[:, ::-1] for f in frames], 23),
    }  # fmt: skip
    return {f"{name}.{edit}": write(folder / f"{name}.{edit}.mp4", f, fps=fps, crf=crf)
            for edit, (f, crf) in copies.items()}  # fmt: skip


KINDS = {"encoded": "near", "resized": "near", "trimmed": "contained", "barred": "near", "mirrored": "mirrored"}


def test_every_edit_of_a_rendered_clip_is_found_and_nothing_else(tmp_path: Path) -> None:
    paths = {f"clip{seed}": write(tmp_path / f"{seed}.mp4", drifting(seed)) for seed in range(12)}
    for seed in (0, 5):
        paths |= edited(f"clip{seed}", drifting(seed), FPS, tmp_path)
    (tmp_path / "copy.mp4").write_bytes(paths["clip0"].read_bytes())
    paths["clip0.copied"] = tmp_path / "copy.mp4"
    found, _ = find(*probed(paths))
    for seed in (0, 5):
        for edit, kind in KINDS.items():
            (edge,) = found[f"clip{seed}", f"clip{seed}.{edit}"]
            assert edge["kind"] == kind, edge
            # Time 0 of the copy is 0.36 s in the original.
            assert abs(edge["offset_ms"] - (-360 if edit == "trimmed" else 0)) <= 125, edge
            if seed == 0:  # what holds for a clip holds for its byte copy
                assert {e["kind"] for e in found[tuple(sorted(("clip0.copied", f"clip0.{edit}")))]} == {kind}
    assert [edge["kind"] for edge in found["clip0", "clip0.copied"]] == ["bytes"]
    assert all(a.split(".")[0] == b.split(".")[0] for a, b in found)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no test videos at {REAL}")
def test_edits_of_real_clips_are_found_and_other_sequences_are_not(tmp_path: Path) -> None:
    rows = [row for row in csv.DictReader((REAL / "labels.csv").open()) if row["official"] == "1"]
    sequence = {Path(row["path"]).stem: (row["set"], row["sequence"]) for row in rows}
    paths = {Path(row["path"]).stem: REAL / row["path"] for row in rows[::2]}
    originals = [Path(row["path"]).stem for row in rows[::40]]
    for name in originals:
        paths |= edited(name, *read(paths[name]), tmp_path)
    found, _ = find(*probed(paths))
    for name in originals:
        for edit, kind in KINDS.items():
            assert [edge["kind"] for edge in found[name, f"{name}.{edit}"]] == [kind]
    strangers = [pair for pair in found if len({sequence[clip.split(".")[0]] for clip in pair}) > 1]
    assert not strangers


def still(clip: str, rng: np.random.Generator, words: np.ndarray, flips: int, source: str = "a") -> tuple[dict, list]:
    """A media row and hashes of a static clip of 3 s: ``words`` with ``flips`` bits changed in each frame."""
    rows = []
    for number in range(12):
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        bits[rng.choice(256, flips, replace=False)] ^= 1
        h = np.packbits(bits, bitorder="little").view("<u8").tolist()
        rows.append({"clip_id": clip, "source": source, "t_ms": 250 * number, "variant": "full", "quality": 0.3,
                     **{f"h{i}": word for i, word in enumerate(h)}})  # fmt: skip
    media = {"clip_id": clip, "source": source, "status": "ok", "sha256": f"{clip}{source}",
             "packet_hash": f"{clip}{source}", "duration_ms": 3000, "width": 64, "height": 64}  # fmt: skip
    return media, rows


def test_more_copies_than_a_bucket_holds_are_all_tied_to_the_preferred() -> None:
    rng = np.random.default_rng(0)
    scene, other = rng.integers(0, 2**63, (2, 4)).astype("<u8")
    clips = [still(f"copy{i:03d}", rng, scene, 2) for i in range(3 * BUCKET_CAP)] + [still("zother", rng, other, 2)]
    found, groups = find([m for m, _ in clips], [row for _, rows in clips for row in rows], protected=("copy077",))
    for i in range(3 * BUCKET_CAP):
        if i != 77:
            assert tuple(sorted((f"copy{i:03d}", "copy077"))) in found
    assert len(found) < 3 * BUCKET_CAP * (3 * BUCKET_CAP - 1) / 2  # not all pairs
    assert {row["canonical_id"] for row in groups.to_pylist()} == {"copy077"}
    assert "zother" not in groups["clip_id"].to_pylist()


def test_a_static_scene_alone_is_no_evidence() -> None:
    """Frames 20 bits apart at every offset: the same tabletop, another take. 3 bits apart: a copy."""
    rng = np.random.default_rng(1)
    scene = rng.integers(0, 2**63, 4).astype("<u8")
    clips = [still(name, rng, scene, flips) for name, flips in (("a", 10), ("b", 10), ("c", 1), ("d", 2))]
    found, _ = find([m for m, _ in clips], [row for _, rows in clips for row in rows])
    assert set(found) == {("c", "d")}


def test_exact_tiers_are_a_ladder_over_all_files_of_a_clip() -> None:
    rng = np.random.default_rng(2)
    words = rng.integers(0, 2**63, (4, 4)).astype("<u8")
    media = [still(name, rng, words[i], 0)[0] for i, name in enumerate("pqrs")]
    media[0] |= {"sha256": "same", "packet_hash": "same"}
    media[1] |= {"sha256": "same", "packet_hash": "same"}
    media[2] |= {"packet_hash": "same"}
    media.append(still("s", rng, words[3], 0, source="b")[0] | {"sha256": "same", "packet_hash": "x"})
    media.append(still("t", rng, words[3], 0)[0] | {"status": "quarantined", "sha256": "same"})
    found, groups = find(media, [])
    kinds = {pair: [edge["kind"] for edge in edges] for pair, edges in found.items()}
    assert kinds == {("p", "q"): ["bytes"], ("p", "s"): ["bytes"], ("q", "s"): ["bytes"],
                     ("p", "r"): ["packets"], ("q", "r"): ["packets"]}  # fmt: skip
    assert {row["clip_id"]: row["cluster_id"] for row in groups.to_pylist()} == dict.fromkeys("pqrs", "p")


def test_overlapping_intervals_of_one_video() -> None:
    video = {"namespace": "youtube", "native_id": "v"}
    clips = [
        video | {"clip_id": "a", "start_ms": 10_000, "end_ms": 20_000},
        video | {"clip_id": "b", "start_ms": 15_000, "end_ms": 23_000},
        video | {"clip_id": "c", "start_ms": 23_000, "end_ms": 30_000},
        video | {"clip_id": "d"},  # the whole video
        video | {"clip_id": "e", "start_ms": 10_000, "end_ms": 20_000, "native_id": "w"},
    ]
    media = [{"clip_id": row["clip_id"], "source": "a", "status": "missing"} for row in clips]
    found, _ = find(media, [], clips=clips + clips)
    assert {pair: (edges[0]["kind"], edges[0]["offset_ms"]) for pair, edges in found.items()} == {
        ("a", "b"): ("overlap", -5000), ("a", "d"): ("overlap", 10_000), ("b", "d"): ("overlap", 15_000),
        ("c", "d"): ("overlap", 23_000)}  # fmt: skip
    assert found["a", "b"][0]["coverage"] == pytest.approx(5 / 8)


def test_preference_follows_the_stated_order() -> None:
    """Each clip differs from the next in one respect, in which it is better."""
    good = {"status": "ok", "source": "a", "width": 320, "height": 240, "duration_ms": 9000}
    media = {
        "z_protected": good | {"source": "b", "width": 64},
        "y_labelled": good | {"source": "b", "width": 64},
        "x_priority": good | {"width": 64},
        "w_pixels": good | {"source": "b", "duration_ms": 1000},
        "v_length": good | {"source": "b", "width": 300},
        "t_id": good | {"source": "b", "width": 300, "duration_ms": 8000},
        "u_id": good | {"source": "b", "width": 300, "duration_ms": 8000},
        "s_unreadable": good | {"status": "quarantined"},
    }
    labels = {"y_labelled": "a class"}
    memberships = [{"clip_id": c, "source": row["source"], "split": "train", "label": labels.get(c)}
                   for c, row in media.items()]  # fmt: skip
    rank = preference(
        table("memberships", memberships),
        table("media", [{"clip_id": c, **row} for c, row in media.items()]),
        {"a": 0, "b": 1},
        {"z_protected"},
    )
    assert sorted(rank, key=rank.__getitem__) == list(media)


def test_a_clip_stands_only_for_those_it_has_an_edge_to() -> None:
    chain = [{"clip_a": a, "clip_b": b} for a, b in (("a", "b"), ("b", "c"), ("c", "d"), ("x", "y"))]
    rows = clusters(chain, {clip: rank for rank, clip in enumerate("dcbayx")}).to_pylist()
    assert {row["clip_id"]: row["cluster_id"] for row in rows} == dict.fromkeys("abcd", "a") | dict.fromkeys("xy", "x")
    canonical = {row["clip_id"]: row["canonical_id"] for row in rows}
    assert canonical == {"a": "b", "b": "c", "c": "d", "d": "d", "x": "y", "y": "y"}
    pairs = {frozenset((row["clip_a"], row["clip_b"])) for row in chain}
    assert all(clip == best or {clip, best} in pairs for clip, best in canonical.items())
