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
from test_insets import moving, put

from warehouse.curation import perceptual
from warehouse.curation.candidates import BUCKET_CAP
from warehouse.curation.clusters import clusters
from warehouse.curation.duplicates import Duplicates, find_duplicates
from warehouse.curation.preference import preference
from warehouse.curation.probe import probe_unit
from warehouse.media_file import MediaFile
from warehouse.schema import BY_NAME
from warehouse.store import Store

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "ut_interaction"


def table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    columns = BY_NAME[name].schema.names
    filled = [dict.fromkeys(columns) | row for row in rows]
    return pa.Table.from_pylist(filled, schema=BY_NAME[name].schema)


def find(
    folder: Path,
    media: list[dict[str, Any]],
    hashes: list[dict[str, Any]],
    *,
    clips: list[dict[str, Any]] | None = None,
    protected: tuple[str, ...] = (),
) -> tuple[dict[tuple[str, str], list[dict[str, Any]]], pa.Table]:
    """Edges by pair, and the table of clusters. Source ``a`` comes before ``b``."""
    result = search(folder, media, hashes, clips=clips, protected=protected)
    edges, found = result.edges, result.clusters
    by_pair: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for edge in edges.to_pylist():
        assert edge["clip_a"] < edge["clip_b"]
        by_pair.setdefault((edge["clip_a"], edge["clip_b"]), []).append(edge)
    assert edges.schema == BY_NAME["duplicate_edges"].schema
    assert found.schema == BY_NAME["duplicate_clusters"].schema
    return by_pair, found


def search(
    folder: Path,
    media: list[dict[str, Any]],
    hashes: list[dict[str, Any]],
    *,
    clips: list[dict[str, Any]] | None = None,
    protected: tuple[str, ...] = (),
) -> Duplicates:
    """Search with what an earlier call remembered in ``folder``."""
    ids, store = sorted({row["clip_id"] for row in media}), Store(folder)
    for source in ("a", "b"):
        rows = [row for row in hashes if row["source"] == source]
        rows.sort(key=lambda row: (row["clip_id"], row["variant"], row["t_ms"]))
        store.write("frame_hashes", table("frame_hashes", rows), source)
    return find_duplicates(
        table("clips", clips or [{"clip_id": i, "namespace": "n", "native_id": i} for i in ids]),
        table("memberships", [{"clip_id": row["clip_id"], "source": row["source"],
                                "split": "val" if row["clip_id"] in protected else "train"} for row in media]),
        table("media", media),
        {s: (store.path("frame_hashes", s), store.file_fingerprint("frame_hashes", s)) for s in ("a", "b")},
        folder / "search",
        priority={"a": 0, "b": 1},
    )  # fmt: skip


def probed(paths: Mapping[str, Path]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    media, hashes = [], []
    for row, frames in probe_unit([(clip, "a", MediaFile(str(path))) for clip, path in paths.items()]):
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
    found, _ = find(tmp_path, *probed(paths))
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
    found, _ = find(tmp_path, *probed(paths))
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


def test_a_clip_inside_another_picture_is_found_and_others_inside_the_same_are_not(tmp_path: Path) -> None:
    ground = [frame // 2 for frame in moving(8, blur=8.0)[:1] * 24]
    clips = {f"clip{seed}": moving(seed) for seed in range(4)}
    clips |= {f"inset{seed}": put(moving(seed), ground, (0.1, 0.3, 0.7, 0.95)) for seed in range(2)}
    paths = {
        name: write(tmp_path / f"{name}.mp4", [np.repeat(f[..., None], 3, axis=2) for f in frames], fps=12, crf=28)
        for name, frames in clips.items()
    }
    found, _ = find(tmp_path, *probed(paths))
    assert {pair: edges[0]["kind"] for pair, edges in found.items()} == {
        ("clip0", "inset0"): "near", ("clip1", "inset1"): "near",
    }  # fmt: skip


def test_many_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(11)
    scenes = rng.integers(0, 2**63, (12, 4)).astype("<u8")
    clips = [still(f"clip{number:02d}", rng, scenes[number % 12], 2) for number in range(60)]
    media, hashes = [row for row, _ in clips], [row for _, frames in clips for row in frames]
    alone = search(tmp_path / "alone", media, hashes)
    monkeypatch.setattr(perceptual, "_ALONE", 0)
    monkeypatch.setattr(perceptual, "_CHUNK", 16)
    together = search(tmp_path / "together", media, hashes)
    assert alone.compared > 16 and alone.edges.num_rows > 50
    assert together == alone


def test_more_copies_than_a_bucket_holds_are_all_tied_to_the_preferred(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene, other = rng.integers(0, 2**63, (2, 4)).astype("<u8")
    clips = [still(f"copy{i:03d}", rng, scene, 2) for i in range(3 * BUCKET_CAP)] + [still("zother", rng, other, 2)]
    hashes = [row for _, rows in clips for row in rows]
    found, groups = find(tmp_path, [m for m, _ in clips], hashes, protected=("copy077",))
    for i in range(3 * BUCKET_CAP):
        if i != 77:
            assert tuple(sorted((f"copy{i:03d}", "copy077"))) in found
    assert len(found) < 3 * BUCKET_CAP * (3 * BUCKET_CAP - 1) / 2  # not all pairs
    assert {row["canonical_id"] for row in groups.to_pylist()} == {"copy077"}
    assert "zother" not in groups["clip_id"].to_pylist()


@pytest.mark.parametrize("protected", [(), ("copy123",)])
def test_of_500_copies_each_that_goes_is_tied_to_one_that_stays_in_every_collection(
    tmp_path: Path, protected: tuple[str, ...]
) -> None:
    """Half of them noisy, half in one group of equal packets, of two sources; the second feeds a collection alone."""
    rng = np.random.default_rng(4)
    scene = rng.integers(0, 2**63, 4).astype("<u8")
    media, hashes, members = [], [], []
    for number in range(500):
        clip, source = f"copy{number:03d}", "ab"[number % 2]
        row, frames = still(clip, rng, scene, 2 if number < 250 else 0, source)
        media.append(row if number < 250 else row | {"packet_hash": "one"})
        hashes += frames
        members.append({"clip_id": clip, "source": source, "split": "val" if clip in protected else "train"})
    result = search(tmp_path, media, hashes, protected=protected)
    edges = list(zip(result.edges["clip_a"].to_pylist(), result.edges["clip_b"].to_pylist(), strict=True))
    assert len(edges) < 500 * 499 / 2 / 2  # not all pairs
    preferred = preference(table("memberships", members), table("media", media), {"a": 0, "b": 1})
    rank = {clip: place for place, clip in enumerate(preferred.to_pylist())}
    for sources in ("ab", "b"):
        usable = {m["clip_id"] for m in members if m["source"] in sources and m["split"] == "train"}
        kept: set[str] = set()
        linked: dict[str, set[str]] = {clip: set() for clip in rank}
        for a, b in edges:
            linked[a].add(b)
            linked[b].add(a)
        for clip in sorted(usable, key=rank.__getitem__):  # as decisions.py goes through them
            if not linked[clip] & (kept | set(protected)):
                kept.add(clip)
        assert len(kept) == (0 if protected else 1)


def test_new_clips_are_compared_with_all_and_the_outcome_is_that_of_a_search_from_nothing(tmp_path: Path) -> None:
    """Twenty sets of copies grow, shrink and change; one of them is larger than a bucket and changes its preferred."""
    rng = np.random.default_rng(5)
    scenes = rng.integers(0, 2**63, (20, 4)).astype("<u8")

    def some(first: int, count: int, scene: int | None = None) -> dict[str, tuple[dict, list]]:
        return {f"clip{n:04d}": still(f"clip{n:04d}", rng, scenes[n % 20 if scene is None else scene], 2, "ab"[n % 2])
                for n in range(first, first + count)}  # fmt: skip

    def run(folder: str, clips: dict[str, tuple[dict, list]], protected: tuple[str, ...]) -> Duplicates:
        media, hashes = [m for m, _ in clips.values()], [row for _, rows in clips.values() for row in rows]
        return search(tmp_path / folder, media, hashes, protected=protected)

    clips = some(0, 200) | some(1000, BUCKET_CAP - 4, scene=0)
    stages = [(dict(clips), ())]
    clips |= some(200, 3)  # new clips
    stages.append((dict(clips), ()))
    clips |= some(2000, 12, scene=0)  # a bucket grows above the cap, and another clip becomes its preferred
    stages.append((dict(clips), ("clip2005",)))
    clips = {clip: rows for clip, rows in clips.items() if clip not in ("clip1003", "clip0007", "clip2005")}
    clips |= some(0, 2, scene=7)  # removed and changed
    stages.append((dict(clips), ()))
    for _ in range(12):  # and the bucket shrinks below the cap again
        clips.pop(next(clip for clip in clips if clip > "clip1"))
    stages.append((dict(clips), ()))
    compared = []
    for number, (state, protected) in enumerate(stages):
        grown, anew = run("grown", state, protected), run(f"anew{number}", state, protected)
        assert grown.edges.equals(anew.edges)
        assert grown.clusters.equals(anew.clusters)
        compared.append((grown.compared, anew.compared))
    assert compared[0][0] == compared[0][1] > 1000
    assert 0 < compared[1][0] <= 3 * 203  # three new clips, each with all
    assert run("grown", *stages[-1]).compared == 0


def test_a_static_scene_alone_is_no_evidence(tmp_path: Path) -> None:
    """Frames 20 bits apart at every offset: the same tabletop, another take. 3 bits apart: a copy."""
    rng = np.random.default_rng(1)
    scene = rng.integers(0, 2**63, 4).astype("<u8")
    clips = [still(name, rng, scene, flips) for name, flips in (("a", 10), ("b", 10), ("c", 1), ("d", 2))]
    found, _ = find(tmp_path, [m for m, _ in clips], [row for _, rows in clips for row in rows])
    assert set(found) == {("c", "d")}


def test_exact_tiers_are_a_ladder_over_all_files_of_a_clip(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    words = rng.integers(0, 2**63, (4, 4)).astype("<u8")
    media = [still(name, rng, words[i], 0)[0] for i, name in enumerate("pqrs")]
    media[0] |= {"sha256": "same", "packet_hash": "same"}
    media[1] |= {"sha256": "same", "packet_hash": "same"}
    media[2] |= {"packet_hash": "same"}
    media.append(still("s", rng, words[3], 0, source="b")[0] | {"sha256": "same", "packet_hash": "x"})
    media.append(still("t", rng, words[3], 0)[0] | {"status": "quarantined", "sha256": "same"})
    found, groups = find(tmp_path, media, [])
    kinds = {pair: [edge["kind"] for edge in edges] for pair, edges in found.items()}
    assert kinds == {("p", "q"): ["bytes"], ("p", "s"): ["bytes"], ("q", "s"): ["bytes"],
                     ("p", "r"): ["packets"], ("q", "r"): ["packets"]}  # fmt: skip
    assert {row["clip_id"]: row["cluster_id"] for row in groups.to_pylist()} == dict.fromkeys("pqrs", "p")


def test_overlapping_intervals_of_one_video(tmp_path: Path) -> None:
    video = {"namespace": "youtube", "native_id": "v"}
    clips = [
        video | {"clip_id": "a", "start_ms": 10_000, "end_ms": 20_000},
        video | {"clip_id": "b", "start_ms": 15_000, "end_ms": 23_000},
        video | {"clip_id": "c", "start_ms": 23_000, "end_ms": 30_000},
        video | {"clip_id": "d"},  # the whole video
        video | {"clip_id": "e", "start_ms": 10_000, "end_ms": 20_000, "native_id": "w"},
    ]
    media = [{"clip_id": row["clip_id"], "source": "a", "status": "missing"} for row in clips]
    found, _ = find(tmp_path, media, [], clips=clips + clips)
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
        "xw_licence": good | {"source": "b", "width": 64},
        "w_pixels": good | {"source": "b", "duration_ms": 1000},
        "v_length": good | {"source": "b", "width": 300},
        "t_id": good | {"source": "b", "width": 300, "duration_ms": 8000},
        "u_id": good | {"source": "b", "width": 300, "duration_ms": 8000},
        "s_unreadable": good | {"status": "quarantined"},
    }
    labels = {"y_labelled": "a class"}
    licences = {"xw_licence": "CC-BY-4.0", "w_pixels": "None stated", "v_length": " ", "t_id": "unknown"}
    memberships = [{"clip_id": c, "source": row["source"], "split": "val" if c == "z_protected" else "train",
                    "label": labels.get(c), "licence": licences.get(c, "none")}
                   for c, row in media.items()]  # fmt: skip
    files = table("media", [{"clip_id": c, **row} for c, row in media.items()])
    assert preference(table("memberships", memberships), files, {"a": 0, "b": 1}).to_pylist() == list(media)


def test_a_clip_stands_only_for_those_it_has_an_edge_to() -> None:
    chain = [{"clip_a": a, "clip_b": b} for a, b in (("a", "b"), ("b", "c"), ("c", "d"), ("x", "y"))]
    rows = clusters(pa.Table.from_pylist(chain), pa.array(list("dcbayx"))).to_pylist()
    assert {row["clip_id"]: row["cluster_id"] for row in rows} == dict.fromkeys("abcd", "a") | dict.fromkeys("xy", "x")
    canonical = {row["clip_id"]: row["canonical_id"] for row in rows}
    assert canonical == {"a": "b", "b": "c", "c": "d", "d": "d", "x": "y", "y": "y"}
    pairs = {frozenset((row["clip_a"], row["clip_b"])) for row in chain}
    assert all(clip == best or {clip, best} in pairs for clip, best in canonical.items())
