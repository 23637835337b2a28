"""A file of weights that a run starts from, in the place of the stages that would have made them."""

import hashlib
import shlex
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from model.classifier import ClassifierConfig
from model.pretrainer import Pretrainer
from model.weights import WEIGHTS, CheckpointError, read_config
from warehouse.config import Config
from warehouse.toml_text import Document


@dataclass(frozen=True)
class Start:
    """Weights of ours: the absolute path of a file or of a checkpoint's folder, the kind of model, its size, and of a
    classifier the names of its classes."""

    path: Path
    kind: str
    size: str
    class_names: tuple[str, ...]

    @property
    def stands_for(self) -> str:
        """The stage that would have left such weights: `pretrained`, or `post_pretrained` for a classifier or the
        features of one."""
        return "pretrained" if self.kind == Pretrainer.kind else "post_pretrained"

    @property
    def sha256(self) -> str:
        """Of the file, wherever it lies: names these weights."""
        return weights_sha256(self.path)


def open_start(config: Config) -> Start | None:
    """What ``training.start`` names, if it names something. Only the file's header is read.

    Raises:
        ConfigError: with the line: there is no such file, or it is of another layout than ours.
    """
    path = config.training.start
    if path is None:
        return None
    try:
        kind, model = read_config(path)
    except CheckpointError as error:
        document = Document(config.path)
        convert = f"`python -m model convert THEIRS.pth {shlex.quote(str(path))} --to reelhouse`"
        remedy = "" if path.exists() else f". Correct the path, or put such a file there: {convert}"
        document.report(("training", "start"), f"{error}{remedy}")
        document.raise_problems()
        raise
    class_names = model.class_names if isinstance(model, ClassifierConfig) else ()
    return Start(path, kind, model.size.name, class_names)


def weights_sha256(path: Path) -> str:
    """SHA-256 of a file of weights, or of those of a checkpoint's folder. Read anew when the file has changed."""
    file = path / WEIGHTS if path.is_dir() else path
    found = file.stat()
    return _sha256(file, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=8)
def _sha256(file: Path, size: int, changed_ns: int) -> str:
    """``size`` and ``changed_ns`` are what tells whether the file is still the one that was read."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
