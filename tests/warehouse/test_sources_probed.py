"""From annotations to probed media: what adapters list is what probing opens, wherever a clip lies."""

import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from rendered_clips import drifting, write
from source_layouts import ID

from warehouse import steps
from warehouse.config import Config, load
from warehouse.probing import probe_sources
from warehouse.store import Store

CONFIG = """
[reelhouse]
data_root = "data"
workers = 1
[training]
preset = "smoke"
pretrain = "all"
post_pretrain = "few"
finetune = "few"
[collections.all]
splits = ["train"]
[collections.few]
splits = ["train", "test"]
taxonomy = "own"
[taxonomies.own]
"""
SOURCE = """
[sources.{kind}]
kind = "{kind}"
media_root = "{kind}"
annotations = {annotations}
collections = ["all", "few"]
stride = 4
licence = "own"
"""


def frames(folder: Path, template: str, pictures: list[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures, 1):
        cv2.imwrite(str(folder / template.format(number)), picture)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A source of each kind with its media where it has them; of each source one more clip is missing."""
    texts = {
        "kinetics/k.csv": f"label,youtube_id,time_start,time_end,split\na,{ID(0)},5,7,train\na,{ID(1)},5,7,train\n",
        "something_something_v1/labels.csv": "a\n",
        "something_something_v1/train.csv": "7;a\n8;a\n",
        "ava/a.csv": "".join(f"{ID(i)},0902,0,0,1,1,80,1\n" for i in (2, 3)),
        "ava/x.csv": "".join(f"{ID(i)},{start}\n" for i in (2, 3) for start in (902, *range(920, 1799, 10))),
        "webvid/w.csv": "videoid,page_dir,duration\n1,000001_000050,PT00H00M02S\n2,000001_000050,PT00H00M02S\n",
        "ucf101/classInd.txt": "1 Archery\n",
        "ucf101/trainlist01.txt": "Archery/v_Archery_g01_c01.avi 1\n",
        "ucf101/testlist01.txt": "Archery/v_Archery_g02_c01.avi\n",
        "hmdb51/splits/climb_test_split1.txt": "one.avi 1\ntwo.avi 2\n",
        "list/train.txt": "my clip.mp4 0 -1\ngone.mp4 0 -1\nAVA/movie 3 20\nAVA/movie 13 20\ngone 1 30\n",
    }  # fmt: skip
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    clip = write(tmp_path / "clip.mp4", drifting(1))
    with tarfile.open(tmp_path / "kinetics/part_0.tar", "w") as archive:
        archive.add(clip, f"./train/{ID(0)}_000005_000007.mp4")
    copies = ("webvid/000001_000050/1.mp4", "ucf101/v_Archery_g01_c01.avi", "hmdb51/climb/one.avi", "list/my clip.mp4")
    for path in copies:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(clip.read_bytes())
    frames(tmp_path / "something_something_v1/20bn/7", "{:05d}.jpg", drifting(2, count=24))
    frames(tmp_path / "list/AVA/movie", "image_{:06d}.jpg", drifting(3, count=40))
    # A movie of a picture in two seconds: fifteen minutes and a quarter, of which [910, 920) is not excluded.
    write(tmp_path / f"ava/{ID(2)}.mkv", drifting(4, count=470, height=32, width=32), fps=0.5)
    named = {
        "kinetics": '{ train = "kinetics/k.csv" }',
        "something_something_v1": '{ labels = "something_something_v1/labels.csv", '
                                  'train = "something_something_v1/train.csv" }',
        "ava": '{ train = "ava/a.csv", train_excluded = "ava/x.csv" }',
        "webvid": '{ train = "webvid/w.csv" }',
        "ucf101": '{ classes = "ucf101/classInd.txt", train = "ucf101/trainlist01.txt", '
                  'test = "ucf101/testlist01.txt" }',
        "hmdb51": '{ splits = "hmdb51/splits/*_test_split1.txt" }',
        "list": '{ train = "list/train.txt" }\nframe_rate = 10',
    }  # fmt: skip
    made = "".join(SOURCE.format(kind=kind, annotations=files) for kind, files in named.items())
    (tmp_path / "sources.toml").write_text(CONFIG + made)
    return load(tmp_path / "sources.toml")


def test_clips_of_every_layout_are_probed_or_missing(config: Config) -> None:
    store = Store(config.data_root)
    for source in config.sources:
        steps.list_source(store, source)
    probe_sources(store, config, config.sources, lambda progress: None)
    found: dict[str, list[tuple[object, ...]]] = {}
    for source in config.sources:
        assert store.rows("rejects", source.name) == []
        native = {c["clip_id"]: (c["native_id"], c["start_ms"] or 0) for c in store.rows("clips", source.name)}
        rows = sorted(store.rows("media", source.name), key=lambda row: native[row["clip_id"]])
        found[source.name] = [
            (native[r["clip_id"]][0], r["status"], r["error_class"], r["frames"], r["duration_ms"]) for r in rows
        ]
    gone = ("missing", "missing_file", None, None)
    whole = ("ok", None, 50, 2000)
    assert found == {
        "kinetics": [(ID(0), *whole), (ID(1), *gone)],
        "something_something_v1": [("7", "ok", None, 24, 2000), ("8", *gone)],
        "ava": [(ID(2), "ok", None, 5, 10_000), (ID(3), *gone)],
        "webvid": [("1", *whole), ("2", *gone)],
        "ucf101": [("v_Archery_g01_c01", *whole), ("v_Archery_g02_c01", *gone)],
        "hmdb51": [("climb/one", *whole), ("climb/two", *gone)],
        "list": [("AVA/movie", "ok", None, 20, 2000), ("AVA/movie", "ok", None, 20, 2000), ("gone", *gone),
                 ("gone.mp4", *gone), ("my clip.mp4", *whole)],
    }  # fmt: skip
