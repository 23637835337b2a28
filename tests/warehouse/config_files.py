"""A good sources.toml, and a folder with the files that it names."""

from pathlib import Path

GOOD = """\
[reelhouse]
data_root = "data"
workers = 3

[training]
preset = "smoke"
pretrain = "everything"
post_pretrain = "labelled"
finetune = "labelled"

[collections.everything]
splits = ["train"]
min_duration_s = 0.5

max_duration_s = 60
min_short_side = 128
min_fps = 9.5
min_motion = 0.01
min_brightness = 0.05
min_picture_share = 0.25

[collections.labelled]
splits = ["train", "val"]
taxonomy = "motions"
leakage = "paper"

[taxonomies.motions]
aliases = { "sliding left" = "drifting left" }
classes = "classes.txt"

[sources.k400]
kind = "kinetics"
media_root = "media"
annotations = { train = "train.csv", val = "val.csv" }
collections = ["everything", "labelled"]
stride = 4
licence = "CC BY 4.0"

[sources.ssv2]
kind = "something_something_v2"
media_root = "media"
annotations = { labels = "labels.json", train = "train.json" }
collections = ["everything"]
stride = 2
licence = "research"

[sources.mine]
kind = "folder"
media_root = "media"
annotations = "mine.csv"
columns = { path = "file", split = "sequence", label = "" }
splits = { train = [1, 2], val = "3" }
where = { official = 1, set = ["a", "b"] }
namespace = "shared"
collections = ["everything"]
stride = 1
licence = "own"
flip = false
"""


def make_folder(root: Path) -> Path:
    """The folder that GOOD lies in."""
    (root / "media").mkdir()
    for name in ("train.csv", "val.csv", "labels.json", "train.json", "mine.csv", "classes.txt"):
        (root / name).touch()
    return root


def write(folder: Path, text: str) -> Path:
    """Write sources.toml."""
    path = folder / "sources.toml"
    path.write_text(text, encoding="utf-8")
    return path
