"""Tensors out of files that others wrote: safetensors, or PyTorch pickles of which nothing is executed."""

import argparse
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.weights import CheckpointError

WRAPPERS = ("model", "module")
"""Keys under which training scripts put the state dict: plain PyTorch, DeepSpeed."""
_PREFIXES = ("_orig_mod.", "module.", "model.")
"""Put before every name by torch.compile, by DistributedDataParallel, and by OpenGVLab's Hugging Face repositories."""
_SCALAR = np.float64(0).__reduce__()[0]
_PLAIN_DATA: list[Any] = [
    argparse.Namespace,
    np.dtype,
    type(np.dtype(np.float64)),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
]
"""What official training files hold beside the weights, and that is data: the command line, and learning rates as
numbers of NumPy (whose module had another name before NumPy 2)."""


@dataclass(frozen=True)
class TensorFile:
    """Tensors by name, and what was read beside them and is not used: keys of the file, a prefix of the names."""

    tensors: dict[str, Tensor]
    left_out: tuple[str, ...]


def read_tensors(path: Path) -> TensorFile:
    """The state dict in ``path``, on the CPU, without the wrapper around it and prefixes that all names share.

    Files whose name ends in ``.safetensors`` are read as such, all others as PyTorch's, by ``weights_only``: code in
    them is never run.

    Raises:
        CheckpointError: the file is not there, is damaged, holds more than data, or no state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    left_out: list[str] = []
    if isinstance(content, dict):
        wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if wrapper is not None:
            left_out = [str(key) for key in content if key != wrapper]
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds no state dict, but a {type(content).__name__}")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(
            f"{path} holds no state dict: beside tensors, or in their place, it has {', '.join(others[:5])}. Looked for"
            f" under {' and '.join(map(repr, WRAPPERS))}, and at the top"
        )
    return TensorFile(_without_prefixes(content), tuple(left_out))


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}. Fetch it again") from error


def _read_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_PLAIN_DATA):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle end in whatever they happen to ask for
        if text := _first_line(path):
            raise CheckpointError(
                f"{path} cannot be read as a PyTorch file: it is text, {text!r}. Log in where it is from if it asks for"
                " that, and fetch it again"
            ) from error
        wanted = str(error).partition("GLOBAL ")[2].split(" ")[0]
        if isinstance(error, pickle.UnpicklingError) and wanted:
            raise CheckpointError(
                f"{path} is a pickle that wants {wanted}, which could run code: it was not loaded. Where you trust it,"
                " take the weights out of it alone: torch.save(torch.load(FILE, weights_only=False)['model'], NEW_FILE)"
            ) from error
        reason = "it is none" if isinstance(error, pickle.UnpicklingError | LookupError) else str(error) or "it ends"
        raise CheckpointError(f"{path} cannot be read as a PyTorch file: {reason}. Fetch it again") from error


def _first_line(path: Path) -> str:
    """Of a page that was saved in the place of the file: its first line, cut short. Empty if the file is no text."""
    with path.open("rb") as file:
        text = file.read(200).strip().split(b"\n")[0].decode("latin-1").strip()
    return text if text.isascii() and text.isprintable() else ""


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors by their bare names. A prefix goes only if every name has it."""
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
