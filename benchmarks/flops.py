"""Multiply-accumulates of a forward pass, by size and masking: ``python -m benchmarks.flops [--size g] [--json]``.

What the paper calls FLOPs are multiply-accumulates of matrix products and convolutions for one clip. They are worked
out from the architecture (``model.flops``), once as the released code goes about it (it embeds every cube of a clip,
and then throws nine of ten away) and once as Reelhouse does (it embeds the visible ones). Each of our models is also
run on the meta device under PyTorch's own counter: a difference between the two counts ends the command.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.classifier import Classifier, ClassifierConfig
from model.flops import embedding_macs, forward_macs, pretraining_macs
from model.masking import DecoderMask
from model.pretrainer import Pretrainer, PretrainerConfig
from model.sizes import SIZES
from warehouse.commands.printing import print_table

SHOWN = ("S", "B", "L", "H", "g")
FRAMES, IMAGE, CLASSES = 16, 224, 400
VIEWS = 15
PUBLISHED: dict[str, dict[str, float]] = {
    "B": {"dual": 25.87, "encoder_only": 35.48},
    "H": {"classifier": 17_880 / VIEWS},
    "g": {"dual": 241.61, "encoder_only": 263.93, "classifier": 38_160 / VIEWS},
}
"""GMACs in the paper: its ablation of dual masking, and its comparison on Kinetics-400, which counts all views."""


@dataclass(frozen=True)
class Gmacs:
    """Billions of multiply-accumulates for a clip of 16 × 224².

    Pre-training with 90 % tubes and half running cells (``dual``) or with tubes alone (``encoder_only``), as the
    released code computes it and as it is computed here; and a classifier of 400 classes.
    """

    dual: float
    encoder_only: float
    dual_here: float
    encoder_only_here: float
    classifier: float


def gmacs(name: str) -> Gmacs:
    """The counts of a size. Raises ArithmeticError where PyTorch's counter says otherwise of one of our models."""
    size = SIZES[name]
    tokens = size.grid(FRAMES, IMAGE).tokens
    released, here = {}, {}
    masks: dict[str, DecoderMask] = {"dual": "running_cell", "encoder_only": "none"}
    for key, decoder_mask in masks.items():
        config = PretrainerConfig(size, FRAMES, IMAGE, decoder_mask=decoder_mask)
        visible, decoded, counted = _pretrainer(config)
        here[key] = _agreed(f"{name}, {key}", forward_macs(config), counted)
        released[key] = (pretraining_macs(size, visible, decoded) + embedding_macs(size, tokens)) / 1e9
    tuned = ClassifierConfig(size, FRAMES, IMAGE, tuple(map(str, range(CLASSES))))
    classifier = _agreed(f"{name}, classifier", forward_macs(tuned), _classifier(tuned))
    return Gmacs(released["dual"], released["encoder_only"], here["dual"], here["encoder_only"], classifier)


def _agreed(what: str, worked_out: int, counted: int) -> float:
    if worked_out != counted:
        raise ArithmeticError(f"{what}: {worked_out} by the formula, {counted} by PyTorch's counter")
    return worked_out / 1e9


def _pretrainer(config: PretrainerConfig) -> tuple[int, int, int]:
    """Visible and decoded tokens of a clip, and what PyTorch counts."""
    with torch.device("meta"):
        model = Pretrainer(config).to("meta")
    masks = model.draw_masks(1, torch.Generator())
    cubes = torch.empty(1, config.grid.tokens, config.size.cube_values, dtype=torch.uint8, device="meta")
    counted = _counted(lambda: model(cubes, masks.visible_BV.to("meta"), masks.decoded_BM.to("meta")))
    return masks.visible_BV.shape[1], masks.decoded_BM.shape[1], counted


def _classifier(config: ClassifierConfig) -> int:
    """What PyTorch counts."""
    with torch.device("meta"):
        model: nn.Module = Classifier(config).to("meta")
        clip = torch.empty(1, FRAMES, IMAGE, IMAGE, 3, dtype=torch.uint8)
    return _counted(lambda: model(clip))


def _counted(forward: Callable[[], object]) -> int:
    """Multiply-accumulates: PyTorch counts each as two operations."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return counter.get_total_flops() // 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the counts beside the paper's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flops", description=__doc__)
    parser.add_argument("--size", nargs="+", choices=tuple(SIZES), default=SHOWN, help="sizes (default: S B L H g)")
    parser.add_argument("--json", action="store_true", help="one object with the figures")
    options = parser.parse_args(arguments)
    counts = {name: gmacs(name) for name in options.size}
    if options.json:
        figures = {name: asdict(count) for name, count in counts.items()}
        print(json.dumps({"gmacs": {name: count["dual"] for name, count in figures.items()}, "figures": figures}))
        return 0
    rows = [
        (name, task, round(released, 2), PUBLISHED.get(name, {}).get(key), here and round(here, 2))
        for name, count in counts.items()
        for task, key, released, here in (
            ("pre-training, dual masking", "dual", count.dual, count.dual_here),
            ("pre-training, encoder masking", "encoder_only", count.encoder_only, count.encoder_only_here),
            ("classifier", "classifier", count.classifier, count.classifier),
        )
    ]
    print("GMACs of the forward pass, a clip of 16 × 224 × 224")
    print_table(("size", "what", "released code", "paper", "Reelhouse"), rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
