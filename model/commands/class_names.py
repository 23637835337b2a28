"""Files of class names: one a line, in the order of a model's head."""

from pathlib import Path

from model.weights import CheckpointError


def read_class_names(path: Path | None) -> list[str]:
    """The names in a file; none without one.

    Raises CheckpointError for a file that is none, an empty line, or a name that comes twice.
    """
    if path is None:
        return []
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise CheckpointError(f"{path} cannot be read: {why}. Name a file with one class name a line") from error
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "" in names:
        raise CheckpointError(f"{path}: an empty line, or names that come twice: {', '.join(twice[:3])}")
    return names
