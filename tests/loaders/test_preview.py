"""The preview shows what the loader gives, of each source, and says in words why where it cannot."""

import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_snapshot import SNAPSHOT, write_snapshot

from loaders.__main__ import main
from loaders.augment import Box
from loaders.erasing import Erased
from loaders.evaluation_loader import EvaluationLoader
from loaders.preview import described, previews
from loaders.preview_sheet import CELL, LABEL, MARGIN
from loaders.randaugment import OPERATIONS, Operation
from loaders.recipes import stage_loaders
from loaders.train_loader import ClipLoader
from loaders.views import LoaderConfig, View
from warehouse.catalog.contact_sheet import KEYWORD
from warehouse.catalog.samples import Sample
from warehouse.catalog.snapshots import open_places
from warehouse.config import Config, load
from warehouse.store import Store
from warehouse.takedown.takedowns import take_down

MakeSamples = Callable[[list[bytes]], list[Sample]]
CONFIG = """\
[reelhouse]
data_root = "."

[training]
preset = "smoke"
pretrain = "actions"
post_pretrain = "actions"
finetune = "actions"

[collections.actions]
splits = ["train", "val"]
taxonomy = "actions"

[taxonomies.actions]

[sources.one]
kind = "folder"
media_root = "media"
annotations = "labels.csv"
collections = ["actions"]
stride = 2
licence = "own"
"""


@pytest.fixture
def config(clips: list[bytes], make_samples: MakeSamples, tmp_path: Path) -> Config:
    """A data root with eight training clips of two sources, of which one was taken down, and two others."""
    path = tmp_path / "sources.toml"
    path.write_text(CONFIG)
    store = write_snapshot(tmp_path, make_samples(clips[:10]))
    take_down(store, ["clip-02"], "asked to", "somebody")
    return load(path, check_files=False)


def run(config: Config, *arguments: str) -> int:
    return main(["preview", *arguments, "--sources", str(config.path)])


def test_it_shows_the_first_clips_that_training_takes_of_each_source(config: Config) -> None:
    places = open_places(Store(config.data_root), SNAPSHOT, "train")
    loader = LoaderConfig(clips_per_batch=1, frames=8, size=48, views=2, flip=True, randaugment=True, erasing=0.5)
    shown = previews(places, loader, clips=2)
    taken: dict[str, list[tuple[str, np.ndarray]]] = {"one": [], "two": []}
    source_of = {place.clip_id: place.source for place in places if isinstance(place, Sample)}
    with ClipLoader(places, loader) as batches:
        for batch in islice(batches, 7):
            taken[source_of[batch.clip_ids[0]]].append((batch.clip_ids[0], batch.frames.numpy().copy()))
    assert shown.keys() == taken.keys()
    for source, clips in shown.items():
        assert [clip.sample.clip_id for clip in clips] == [clip_id for clip_id, _ in taken[source][:2]]
        for clip, (_, frames) in zip(clips, taken[source], strict=False):
            np.testing.assert_array_equal(clip.seen, frames)


def test_an_evaluation_is_shown_as_it_scores(config: Config) -> None:
    places = open_places(Store(config.data_root), SNAPSHOT, "val")
    loader = stage_loaders(config).evaluation
    shown = previews(places, loader, clips=3)
    [batch] = list(EvaluationLoader(list(places), loader))
    found = {clip.sample.clip_id: clip.seen for clips in shown.values() for clip in clips}
    assert found.keys() == set(batch.clip_ids) == {"clip-08", "clip-09"}
    for row, clip_id in enumerate(batch.clip_ids):
        np.testing.assert_array_equal(found[clip_id][row % loader.views], batch.frames[row].numpy())


def test_the_sheet_holds_every_view_and_names_its_clips(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    broken = open_places(Store(config.data_root), SNAPSHOT, "train")[3]
    with broken.shard.open("r+b") as shard:
        shard.seek(broken.offset + 100)
        shard.write(b"broken")
    out = config.data_root / "sheet.png"
    assert run(config, "actions", "--out", str(out), "--stage", "pretrained", "--clips", "4") == 0
    assert "7 clips of 2 sources, as pretrained of smoke sees them; 1 cannot be read" in capsys.readouterr().out
    picture = cv2.imread(str(out))[:, :, ::-1]
    places = open_places(Store(config.data_root), SNAPSHOT, "train")
    column = picture[:, MARGIN + LABEL : MARGIN + LABEL + CELL]
    seen = 0
    for clips in previews(places, stage_loaders(config).pretrained, 4).values():
        for clip in clips:
            assert (clip.seen is None) == (clip.sample.clip_id == "clip-03")
            for view in () if clip.seen is None else clip.seen:
                cell = view[0].repeat(CELL // 48, axis=0).repeat(CELL // 48, axis=1)
                tops = np.flatnonzero((column[: 1 - CELL] == cell[0]).all((1, 2)))
                assert any((column[top : top + CELL] == cell).all() for top in tops), clip.sample.clip_id
                seen += 1
    assert seen == 12
    data = out.read_bytes()
    assert KEYWORD.encode() in data and b"clip-03" in data and b"clip-02" not in data


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "--out", "a.png"], "'nothing' is no collection .*actions.* and no snapshot .*0123456789abcdef"),
        (["actions", "--out", "a.jpg"], "a.jpg is no name for a PNG. End it in .png"),
        (["actions", "--out", "there.png"], "there.png is there already. Name another file, or remove it"),
        (["actions", "--out", "no/a.png"], "there is no folder .*no. Make it"),
        (["actions", "--out", "a.png", "--clips", "0"], "1 clip or more"),
    ],
)
def test_what_cannot_be_shown_is_said(
    config: Config, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(config.data_root)
    Path("there.png").touch()
    assert run(config, *arguments) == 1
    text = capsys.readouterr().err
    assert text.startswith("reelhouse: ") and re.search(message, text)
    assert not Path("a.png").exists()


def test_shares_of_other_sources_are_an_error_that_says_so(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    config.path.write_text(config.path.read_text().replace("[training]", "[training]\nsource_shares = { one = 1 }"))
    assert run(config, "actions", "--out", str(config.data_root / "a.png"), "--stage", "pretrained") == 1
    assert "pretrained cannot draw from this snapshot: source_shares: no share for two" in capsys.readouterr().err


def test_before_anything_has_run_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sources.toml").write_text(CONFIG)
    arguments = ["preview", "actions", "--out", str(tmp_path / "a.png"), "--sources", str(tmp_path / "sources.toml")]
    assert main(arguments) == 1
    assert "no collection of which a snapshot has been taken (none)" in capsys.readouterr().err


def test_every_operation_has_words() -> None:
    operations = tuple(Operation(name, 0.25) for name in OPERATIONS)
    view = View(np.arange(0, 64, 4), Box(1, 2, 30, 40), True, operations, Erased(Box(0, 0, 5, 6), 0))
    lines = described(view)
    assert lines[:2] == ["frames 0, 4, 8, …, 60", "40 × 30 from (2, 1), mirrored"] and lines[-1] == "erased 6 × 5"
    assert len(lines) == 3 + len(OPERATIONS) == len(set(lines))
    assert {"moved left by 25%", "moved up by 25%"} <= set(lines)
