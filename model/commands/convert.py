"""``python -m model convert``: weights from one layout into another."""

import argparse
from pathlib import Path

from model.commands.class_names import read_class_names
from model.conversion import WRITERS
from model.foreign_weights import open_weights
from model.weights import CheckpointError
from warehouse.commands.numbers import at_least_one


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "convert",
        help="weights from one layout into another",
        description="Read weights of the official VideoMAE V2, of Hugging Face or of Reelhouse, check every tensor, and"
        " write them in another layout. What kind of model and which size it is, the file tells.",
        epilog="From official weights to a run: python -m model convert vit_b_k710_dl_from_giant.pth b_k710.safetensors"
        " --to reelhouse --classes label_map_k710.txt",
    )
    parser.add_argument("source", type=Path, metavar="IN", help="file (.pth, .pt, .bin, .safetensors) or folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="what is written: a folder for huggingface, else a file")
    parser.add_argument("--to", required=True, choices=tuple(WRITERS), help="layout of OUT")
    parser.add_argument(
        "--frames",
        type=at_least_one,
        metavar="N",
        help="frames of the clip that the model takes (default: as IN says, else 16)",
    )
    parser.add_argument(
        "--image",
        type=at_least_one,
        metavar="PX",
        help="its width and height in pixels (default: as IN says, else 224)",
    )
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="class names of the head, one a line, where IN does not have them"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Convert, and say what was read, left out and written."""
    if options.out.exists():
        raise CheckpointError(f"{options.out} is there already. Name another, or remove it")
    if not options.out.parent.is_dir():
        raise CheckpointError(f"{options.out.parent} is no folder. Make it, or name another")
    if options.to == "reelhouse" and options.out.suffix != ".safetensors":
        raise CheckpointError(f"{options.out}: the name of a file of weights ends in .safetensors")
    opened = open_weights(options.source, options.frames, options.image, read_class_names(options.classes))
    weights, config = opened.weights, opened.weights.config
    count = sum(tensor.numel() for tensor in weights.tensors.values())
    classes = f", {len(weights.class_names)} classes" if weights.class_names else ""
    print(f"{options.source}: {opened.layout}, {weights.kind}, size {config.size.name}{classes}, {count:,} parameters")
    said = WRITERS[options.to](options.out, weights)
    for note in (*opened.notes, *said):
        print(f"  {note}")
    print(f"{options.out}: {options.to}, for clips of {config.frames} × {config.image} × {config.image}")
