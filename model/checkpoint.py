"""Checkpoints: a folder that is there completely or not at all.

``step-000120/`` holds ``state/`` (model and optimiser, sharded, for going on), ``weights.safetensors`` (the model
alone, whole, with its configuration: for the next stage and for evaluation) and ``meta.json``. It is written under a
temporary name beside its place and renamed; older ones go only after that.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from model.classifier import Classifier
from model.pretrainer import Pretrainer
from model.weights import WEIGHTS, CheckpointError, write_weights

NAME = re.compile(r"step-(\d{6,})")
TEMPORARY = ".step-*.tmp"
META = "meta.json"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: where it is and what ``meta.json`` says.

    ``step`` counts the optimiser steps taken, ``cursors`` holds each rank's place in its stream of batches.
    """

    path: Path
    step: int
    seed: int
    cursors: tuple[Mapping[str, int], ...]

    def cursor(self, rank: int, ranks: int) -> dict[str, int]:
        """The fields of the cursor from which a rank's stream goes on.

        Raises CheckpointError if the checkpoint was saved by another number of ranks.
        """
        if ranks != len(self.cursors):
            raise CheckpointError(
                f"{self.path} was saved by {len(self.cursors)} ranks and cannot go on with {ranks}:"
                " start as many, or start a new run from its weights"
            )
        return dict(self.cursors[rank])


def read(path: Path) -> Checkpoint:
    """The checkpoint in folder ``path``. Raises CheckpointError if there is none."""
    try:
        meta = json.loads((path / META).read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is no checkpoint: it has no {META}") from error
    return Checkpoint(
        path=path,
        step=meta["step"],
        seed=meta["seed"],
        cursors=tuple(meta["cursors"]),
    )


def latest(folder: Path) -> Checkpoint | None:
    """The complete checkpoint with most steps in ``folder``, or None. Unfinished ones do not count."""
    if not folder.is_dir():
        return None
    steps = [(int(match[1]), path) for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]
    return read(max(steps)[1]) if steps else None


def save(
    folder: Path,
    step: int,
    seed: int,
    model: Pretrainer | Classifier,
    optimizer: Optimizer,
    cursor: Mapping[str, int],
    keep: int,
) -> Path:
    """Write ``folder/step-NNNNNN`` with all ranks together, then remove all but the ``keep`` newest.

    ``model`` is sharded over the ranks; ``cursor`` is this rank's.
    """
    rank = dist.get_rank()
    final = folder / f"step-{step:06d}"
    temporary = folder / f".{final.name}.tmp"
    cursors: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(cursors, dict(cursor))
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(TEMPORARY):
            shutil.rmtree(leftover)
        temporary.mkdir()
    dist.barrier()
    model_state, optimizer_state = get_state_dict(model, optimizer)
    dcp.save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=temporary / "state")
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        # On disk before the rename that makes them count; so are the files of state/.
        write_weights(temporary / WEIGHTS, model.kind, model.config, cast(dict[str, Tensor], whole))
        meta = {"step": step, "seed": seed, "cursors": cursors, "torch": torch.__version__}
        with (temporary / META).open("w") as file:
            file.write(json.dumps(meta, indent=2))
            file.flush()
            os.fsync(file.fileno())
    dist.barrier()
    if rank == 0:
        temporary.rename(final)
        remove_older(folder, keep)
    dist.barrier()
    return final


def remove_older(folder: Path, keep: int) -> None:
    """Leave the ``keep`` checkpoints with most steps."""
    complete = sorted((int(match[1]), path) for path in folder.iterdir() if (match := NAME.fullmatch(path.name)))
    for _, path in complete[:-keep]:
        # Out of the way first: a folder that is half removed must not look like a checkpoint.
        doomed = path.with_name(f".{path.name}.tmp")
        path.rename(doomed)
        shutil.rmtree(doomed)


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer) -> None:
    """Load model and optimiser, sharded over the present ranks, in place."""
    model_state, optimizer_state = get_state_dict(model, optimizer)
    dcp.load({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=checkpoint.path / "state")
    set_state_dict(model, optimizer, model_state_dict=model_state, optim_state_dict=optimizer_state)
