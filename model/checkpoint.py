"""Checkpoints: a folder that is there completely or not at all.

``step-000120/`` holds ``state/`` (models and optimisers, sharded, for going on with any number of ranks),
``weights.safetensors`` (the model alone, whole, with its configuration: for the next stage and for evaluation) and
``meta.json``; of a run that averages its weights also ``averaged/weights.safetensors``. Where several models are
trained together, the weights of each are in a folder of its name. A checkpoint is written under a temporary name beside
its place and renamed; older ones go only after that.

Kept are the last few and the best one: by the measure that ``meta.json`` has, of those measured as the last one is.
Stages that follow start from the last one: the best was selected on what it was measured on.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from model.classifier import Classifier
from model.pretrainer import Pretrainer
from model.weights import WEIGHTS, CheckpointError, write_weights

NAME = re.compile(r"step-(\d{6,})")
TEMPORARY = ".step-*.tmp"
META = "meta.json"
AVERAGED = "averaged"
"""Folder of the averaged weights, beside the others."""


@dataclass(frozen=True)
class Measure:
    """How good the models of a checkpoint are, by what: higher is better. NaN: nobody knows, and it is not saved."""

    name: str
    value: float


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: where it is and what ``meta.json`` says.

    ``step`` counts the optimiser steps taken, ``cursors`` holds each rank's place in its stream of batches (another
    number of ranks goes on by ``loaders.continuing``), and ``loop`` what the training loop wants to know again.
    """

    path: Path
    step: int
    seed: int
    cursors: tuple[Mapping[str, int], ...]
    measure: Measure | None = None
    loop: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A model in training, sharded, with its optimiser and, where its weights are averaged, the averages.

    ``averaged`` has a tensor for each parameter, by its name and sharded like it.
    """

    model: Pretrainer | Classifier
    optimizer: Optimizer
    averaged: Mapping[str, Tensor] | None = None


def read(path: Path) -> Checkpoint:
    """The checkpoint in folder ``path``. Raises CheckpointError if there is none."""
    try:
        meta = json.loads((path / META).read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is no checkpoint: it has no {META}") from error
    measure = meta.get("measure")
    return Checkpoint(
        path=path,
        step=meta["step"],
        seed=meta["seed"],
        cursors=tuple(meta["cursors"]),
        measure=Measure(**measure) if measure else None,
        loop=meta.get("loop", {}),
    )


def place(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or comes, in ``folder``."""
    return folder / f"step-{step:06d}"


def latest(folder: Path) -> Checkpoint | None:
    """The complete checkpoint with most steps in ``folder``, or None. Unfinished ones do not count."""
    complete = _complete(folder)
    return read(complete[-1]) if complete else None


def best(folder: Path) -> Checkpoint | None:
    """The best complete checkpoint in ``folder``, of equals the latest, or None.

    Compared are those that were measured by what the latest was measured by.
    """
    measured = [(found.measure, found) for found in map(read, _complete(folder)) if found.measure]
    if not measured:
        return None
    name = measured[-1][0].name
    return max((measure.value, found.step, found) for measure, found in measured if measure.name == name)[2]


def save(
    folder: Path,
    step: int,
    seed: int,
    trained: Mapping[str, Trained],
    cursor: Mapping[str, int],
    keep: int,
    measure: Measure | None = None,
    loop: Mapping[str, Any] | None = None,
) -> Path:
    """Write the checkpoint with all ranks together, then remove all but the ``keep`` newest and the best one.

    ``trained`` has the models by name ("" for one alone), ``cursor`` is this rank's; ``measure`` and ``loop`` (for
    JSON) are the same on all ranks.
    """
    rank = dist.get_rank()
    final = place(folder, step)
    temporary = folder / f".{final.name}.tmp"
    cursors: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(cursors, dict(cursor))
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(TEMPORARY):
            shutil.rmtree(leftover)
        temporary.mkdir()
    dist.barrier()
    dcp.save(_state(trained), checkpoint_id=temporary / "state")
    for name, one in trained.items():
        _write_weights(one, temporary / name)
    if rank == 0:
        meta = {
            "step": step,
            "seed": seed,
            "cursors": cursors,
            "measure": asdict(measure) if measure and not math.isnan(measure.value) else None,
            "loop": dict(loop or {}),
            "torch": torch.__version__,
        }
        with (temporary / META).open("w") as file:
            file.write(json.dumps(meta, indent=2))
            file.flush()
            os.fsync(file.fileno())
    dist.barrier()
    if rank == 0:
        temporary.rename(final)
        _remove_others(folder, keep)
    dist.barrier()
    return final


def restore(checkpoint: Checkpoint, trained: Mapping[str, Trained]) -> None:
    """Load models, optimisers and averages, sharded over the present ranks, in place."""
    state = _state(trained)
    dcp.load(state, checkpoint_id=checkpoint.path / "state")
    for name, one in trained.items():
        part = state[name] if name else state
        set_state_dict(one.model, one.optimizer, model_state_dict=part["model"], optim_state_dict=part["optimizer"])


def _state(trained: Mapping[str, Trained]) -> dict[str, Any]:
    """What ``state/`` holds, as the ranks have it now: a part for each name; that of "" is not nested."""
    state: dict[str, Any] = {}
    for name, one in trained.items():
        model_state, optimizer_state = get_state_dict(one.model, one.optimizer)
        part: dict[str, Any] = {"model": model_state, "optimizer": optimizer_state}
        if one.averaged is not None:
            part["averaged"] = dict(one.averaged)  # loaded in place
        state.update({name: part} if name else part)
    return state


def _write_weights(one: Trained, folder: Path) -> None:
    """Gather the weights, and their averages, and write them on rank 0."""
    model = one.model
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    files = {folder: cast(dict[str, Tensor], whole)}
    if one.averaged is not None:
        files[folder / AVERAGED] = _gathered(one.averaged)
    if dist.get_rank() == 0:
        for place, tensors in files.items():
            place.mkdir(parents=True, exist_ok=True)
            # On disk before the rename that makes them count; so are the files of state/.
            write_weights(place / WEIGHTS, model.kind, model.config, tensors)


def _gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whole, in memory of the host, on rank 0; nothing on the others."""
    gathered = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if dist.get_rank() == 0:
            gathered[name] = whole.cpu()
    return gathered


def _complete(folder: Path) -> list[Path]:
    """The complete checkpoints, by steps."""
    if not folder.is_dir():
        return []
    steps = [(int(match[1]), path) for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(steps)]


def _remove_others(folder: Path, keep: int) -> None:
    """Leave the ``keep`` checkpoints with most steps, and the best one."""
    found = best(folder)
    for path in _complete(folder)[:-keep]:
        if found and path == found.path:
            continue
        # Out of the way first: a folder that is half removed must not look like a checkpoint.
        doomed = path.with_name(f".{path.name}.tmp")
        path.rename(doomed)
        shutil.rmtree(doomed)
