"""``python -m loaders preview``: a picture of what a model is about to see."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import cv2

from loaders.mixture import mixture_weights
from loaders.preview import previews
from loaders.preview_sheet import sheet
from loaders.recipes import StageLoaders, stage_loaders
from loaders.views import EvaluationConfig, LoaderConfig
from warehouse.catalog.contact_sheet import with_text
from warehouse.catalog.differences import snapshot_of
from warehouse.catalog.membership import SnapshotError
from warehouse.catalog.samples import Sample, Tombstone, order_columns
from warehouse.catalog.snapshots import open_places, snapshot_splits
from warehouse.config import Config, ConfigError, load
from warehouse.store import Store, replace_file

STAGES = tuple(field.name for field in fields(StageLoaders))


class PreviewError(RuntimeError):
    """What was asked for cannot be drawn, or not there."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, or 1 with a message on standard error)."""
    parser = argparse.ArgumentParser(prog="python -m loaders", description="From a snapshot to what a model sees.")
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser(
        "preview",
        help="a PNG of what a stage is about to see, with its augmentations",
        description="Draw, of each source of a snapshot, the first clips that training takes: their frames as they are "
        "stored, with the boxes that the views take, and the views as the model gets them. How a stage samples and "
        "augments is said by the preset of the configuration ([training] preset).",
    )
    shown.add_argument("name", metavar="SNAPSHOT", help="snapshot id, or a collection (its newest snapshot)")
    shown.add_argument("--out", type=Path, required=True, metavar="FILE", help="PNG to write, which is not there yet")
    shown.add_argument(
        "--stage", choices=STAGES, help="default: pretrained for a snapshot without classes, else finetuned"
    )
    shown.add_argument("--clips", type=int, default=2, metavar="N", help="clips of each source (default: %(default)s)")
    shown.add_argument(
        "--sources", type=Path, help="configuration (default: $REELHOUSE_SOURCES, else sources.toml of the project)"
    )
    options = parser.parse_args(arguments)
    try:
        config = load(options.sources, check_files=False)
        print(draw(Store(config.data_root), config, options.name, options.stage, options.clips, options.out))
    except (ConfigError, PreviewError, SnapshotError) as error:
        print(f"reelhouse: {error}", file=sys.stderr)
        return 1
    return 0


def draw(store: Store, config: Config, name: str, stage: str | None, clips: int, path: Path) -> str:
    """Write the sheet; returns a line on what is in it.

    Raises:
        PreviewError: ``path`` cannot be written, ``clips`` is less than 1, or the shares of the sources do not fit the
            snapshot.
        SnapshotError: there is no such snapshot, or it has no clips for the stage.
        ConfigError: `training.preset` is no preset.
    """
    _check(path, clips)
    snapshot_id = snapshot_of(store, name)
    [snapshot] = store.rows("snapshots", snapshot_id)
    stage, preset = stage or ("pretrained" if snapshot["classes"] is None else "finetuned"), config.training.preset
    loader = getattr(stage_loaders(config), stage)
    split = "train"
    if isinstance(loader, EvaluationConfig):
        split = "val" if "val" in snapshot_splits(store, snapshot_id) else "test"
    places = open_places(store, snapshot_id, split)
    try:
        shown = previews(places, loader, clips)
    except ValueError as error:  # training would stop at the same
        raise PreviewError(f"{stage} cannot draw from this snapshot: {error}") from error
    names: dict[int | None, str] = {None: "unlabelled", **dict(enumerate(snapshot["classes"] or ()))}
    there = (~order_columns(places).gone).sum()
    title = [
        f"What the stage {stage} of the preset {preset} sees of {snapshot['collection']}, snapshot {snapshot_id}",
        f"{there:,} {split} clips; views of {loader.frames} × {loader.size} × {loader.size}",
    ]
    picture = sheet(title, {_heading(places, loader, source): drawn for source, drawn in shown.items()}, names)
    drawn = [clip for clips_of_source in shown.values() for clip in clips_of_source]
    encoded = cv2.imencode(".png", picture[:, :, ::-1])[1]
    # Named in the file too: so `reelhouse compact` finds a sheet that shows a clip taken down.
    replace_file(path, with_text(encoded.tobytes(), " ".join(clip.sample.clip_id for clip in drawn)))
    failed = sum(bool(clip.error) for clip in drawn)
    note = f"; {failed} cannot be read, the sheet says why" if failed else ""
    what = f"{len(drawn)} clip{'s'[: len(drawn) != 1]} of {len(shown)} source{'s'[: len(shown) != 1]}"
    return f"{path}: {what}, as {stage} of {preset} sees them{note}"


def _check(path: Path, clips: int) -> None:
    if path.suffix.lower() != ".png":
        raise PreviewError(f"{path} is no name for a PNG. End it in .png")
    if path.exists():
        raise PreviewError(f"{path} is there already. Name another file, or remove it")
    if not path.parent.is_dir():
        raise PreviewError(f"there is no folder {path.parent}. Make it, or name another file")
    if clips < 1:
        raise PreviewError("--clips: a sheet shows 1 clip or more of each source")


def _heading(places: Sequence[Sample | Tombstone], loader: LoaderConfig | EvaluationConfig, source: str) -> str:
    """What a sheet says of a source: its clips, and its share of those that are drawn."""
    columns = order_columns(places)
    of_source = (columns.source == columns.source_names.index(source)) & ~columns.gone
    if isinstance(loader, EvaluationConfig):
        return f"{source}: {of_source.sum():,} clips"
    weights_N = mixture_weights(columns, loader.source_shares) * ~columns.gone
    return f"{source}: {of_source.sum():,} clips, {weights_N[of_source].sum() / weights_N.sum():.0%} of what is drawn"


if __name__ == "__main__":
    sys.exit(main())
