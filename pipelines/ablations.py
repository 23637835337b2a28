"""The paper's ablations at the scale of one's own recipe: the recipe with one thing replaced, run by the same stages.

Each is a run like any other: in the ledger, lineage and takedowns included, and not repeated. The recipe itself is one
of them ("recipe"), and with seed 0 it is the run that the job ``full_run`` makes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dagster as dg

from assets.stages import PretrainSettings, Recipe, RunSpec, Trained
from assets.training import run_specs, training_assets
from model.flops import forward_macs
from model.masking import DecoderMask
from model.sizes import SIZES
from warehouse.catalog.build import connect
from warehouse.config import Config
from warehouse.store import Store


class AblationError(Exception):
    """An ablation that the configuration does not allow. The message says why."""


Setting = tuple[Config, Recipe]


@dataclass(frozen=True)
class Ablation:
    """One thing replaced. ``change`` may raise AblationError.

    ``paper`` is the paper's top-1 in percent, ``paper_gmacs`` its multiply-accumulates of pre-training, in billions.
    """

    question: str
    change: Callable[[Config, Recipe], Setting]
    paper: float | None = None
    paper_gmacs: float | None = None


@dataclass(frozen=True)
class Measured:
    """What came of an ablation with one seed. ``runs`` are its runs by stage; seconds are those of all GPUs, or of the
    CPU's processes, from start to end."""

    name: str
    seed: int
    runs: dict[str, str]
    top1: float
    gmacs: float
    seconds_per_step: float


def _decoder(mask: DecoderMask, ratio: float, config: Config, recipe: Recipe) -> Setting:
    return config, replace(recipe, pretrained=replace(pretraining(recipe), decoder_mask=mask, decoder_ratio=ratio))


def _size(name: str, config: Config, recipe: Recipe) -> Setting:
    return config, replace(recipe, pretrained=replace(pretraining(recipe), size=name))


def _own_clips(config: Config, recipe: Recipe) -> Setting:
    """Pre-training on nothing but the clips of fine-tuning."""
    pretraining(recipe)
    return replace(config, training=replace(config.training, pretrain=config.training.finetune)), recipe


def pretraining(recipe: Recipe) -> PretrainSettings:
    """The recipe's pre-training, which every ablation changes. Raises AblationError where it has none."""
    if recipe.pretrained is None:
        raise AblationError(
            f"the recipe starts from {recipe.start.path if recipe.start else 'weights'} and pre-trains nothing, and"
            " ablations change pre-training: take `start` out of [training]"
        )
    return recipe.pretrained


MASK, DATA, SIZE = "decoder mask", "data", "model size"
PAPER_SIZES = {"B": 81.5, "L": 85.4, "H": 86.9, "g": 87.2}
# The paper's top-1 and GMACs. Decoder masks: ViT-B on Something-Something V2, 800 epochs. Data: ViT-H on Kinetics-400,
# pre-trained on it alone (VideoMAE V1) or on UnlabeledHybrid, which is the recipe. Sizes: Kinetics-400 without other
# labels.
ABLATIONS: dict[str, Ablation] = {
    "recipe": Ablation("as it is", lambda config, recipe: (config, recipe)),
    "decoder-none": Ablation(MASK, partial(_decoder, "none", 0.5), 70.28, 35.48),
    "decoder-frame-50": Ablation(MASK, partial(_decoder, "frame", 0.5), 69.76, 25.87),
    "decoder-random-50": Ablation(MASK, partial(_decoder, "random", 0.5), 64.87, 25.87),
    "decoder-cell-25": Ablation(MASK, partial(_decoder, "running_cell", 0.25), 70.22, 31.63),
    "decoder-cell-50": Ablation(MASK, partial(_decoder, "running_cell", 0.5), 70.15, 25.87),
    "decoder-cell-75": Ablation(MASK, partial(_decoder, "running_cell", 0.75), 70.01, 21.06),
    "data-finetuning-only": Ablation(DATA, _own_clips, 86.6),
    **{f"size-{name}": Ablation(SIZE, partial(_size, name), PAPER_SIZES.get(name)) for name in SIZES},
}


def chosen(names: Sequence[str]) -> list[str]:
    """The ablations of these names in their order; without names all that change masks and data, and the recipe itself.

    Raises:
        AblationError: there is no such ablation.
    """
    unknown = sorted(set(names) - ABLATIONS.keys())
    if unknown:
        raise AblationError(f"no ablation {', '.join(unknown)}. There are: {', '.join(ABLATIONS)}")
    return [name for name, each in ABLATIONS.items() if (name in names if names else each.question != SIZE)]


def setting(name: str, config: Config, recipe: Recipe, seed: int) -> Setting:
    """Configuration and recipe of an ablation; seed 0 is the recipe's own.

    Raises:
        AblationError: it does not fit the recipe.
    """
    config, recipe = ABLATIONS[name].change(config, recipe)
    first = pretraining(recipe)
    try:
        forward_macs(first.model)
    except ValueError as error:
        raise AblationError(
            f"{name} does not fit clips of {first.loader.frames} × {first.loader.size}²: {error}"
        ) from error
    return config, replace(
        recipe,
        pretrained=_seeded(first, seed),
        post_pretrained=recipe.post_pretrained and _seeded(recipe.post_pretrained, seed),
        finetuned=_seeded(recipe.finetuned, seed),
    )


def _seeded(settings: Trained, seed: int) -> Trained:
    loader, fit = settings.loader, settings.fit
    return replace(settings, loader=replace(loader, seed=loader.seed + seed), fit=replace(fit, seed=fit.seed + seed))


def run_all(names: Sequence[str], config: Config, recipe: Recipe, seeds: int) -> list[Measured]:
    """Run what is missing of the ablations, with the seeds 0, 1…, by the training assets; the figures of all.

    Dagster's own record of the assets stays that of the recipe: what came of an ablation is in the ledger.

    Raises:
        AblationError: there is no such ablation, or it does not fit the recipe; before anything runs.
        SnapshotError: a collection has no snapshot yet.
        Failure: of Dagster, where a stage failed.
    """
    store, recipe = Store(config.data_root), replace(recipe, distilled=None, features=None)
    settings = [(name, seed, *setting(name, config, recipe, seed)) for name in chosen(names) for seed in range(seeds)]
    found = []
    for name, seed, of_its_own, changed in settings:
        specs = run_specs(store, of_its_own, changed)
        dg.materialize(training_assets(of_its_own, changed), instance=dg.DagsterInstance.ephemeral())
        found.append(measured(store, name, seed, specs))
    return found


QUERY = """
    SELECT s.value AS top1, p.seconds
    FROM scores s, runs p
    WHERE s.run_id = ? AND s.metric = 'top1' AND p.run_id = ?
"""
"""What the table shows of an evaluation's and a pre-training's run."""


def measured(store: Store, name: str, seed: int, specs: dict[str, RunSpec]) -> Measured:
    """The figures of finished runs, from the catalog."""
    first = specs["pretrained"].settings
    assert isinstance(first, PretrainSettings)
    with connect(store) as connection:
        row: Any = connection.execute(QUERY, [specs["evaluation"].run_id, specs["pretrained"].run_id]).fetchone()
    return Measured(
        name,
        seed,
        {stage: spec.run_id for stage, spec in specs.items()},
        top1=row[0],
        gmacs=forward_macs(first.model) / 1e9,
        seconds_per_step=row[1] * specs["pretrained"].processes / first.fit.steps,
    )
