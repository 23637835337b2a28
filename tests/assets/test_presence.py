"""The table of listed against present, as the asset `clips` shows it in the UI."""

from pathlib import Path

import dagster as dg
import pytest

from assets.data import data_assets
from warehouse.config import load

pytestmark = pytest.mark.filterwarnings("ignore:Parameter `backfill_policy`")

CONFIG = """
[reelhouse]
data_root = "data"
[training]
preset = "smoke"
pretrain = "all"
post_pretrain = "all"
finetune = "all"
[collections.all]
splits = ["train", "val"]
taxonomy = "own"
[taxonomies.own]
[sources.mine]
kind = "folder"
media_root = "media"
annotations = "mine.csv"
splits = { train = "train", val = "val" }
collections = ["all"]
stride = 1
licence = "own"
"""


@pytest.mark.parametrize("again", [False, True])
def test_clips_shows_listed_against_present_by_split(tmp_path: Path, again: bool) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media/1.mp4").write_bytes(b"video")
    (tmp_path / "mine.csv").write_text("path,split\n1.mp4,train\n2.mp4,train\n3.mp4,val\n../4.mp4,train\n")
    (tmp_path / "sources.toml").write_text(CONFIG)
    sources, clips, *_ = data_assets(load(tmp_path / "sources.toml"))
    for _ in range(1 + again):  # also where there is nothing to do
        result = dg.materialize([sources, clips], selection=["clips"], partition_key="mine")
    [made] = result.asset_materializations_for_node("clips")
    assert made.metadata["clips rows"].value == 3 and made.metadata["nothing to do"].value is again
    assert made.metadata["presence"].value.splitlines() == [
        "| split | listed | present | missing | rejected | share_present |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| train | 2 | 1 | 1 | 0 | 0.5 |",
        "| val | 1 | 0 | 1 | 0 | 0.0 |",
        "|  | 0 | 0 | 0 | 1 |  |",
    ]
