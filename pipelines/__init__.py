"""Dagster definitions: ``dagster job execute -m pipelines -j full_run``."""

import warnings
from typing import Any

__all__ = ["defs"]


def __getattr__(name: str) -> Any:
    """``defs``, built when it is asked for: the commands of this package take another configuration, or none."""
    if name != "defs":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dagster import BetaWarning, PreviewWarning

    # Dagster's version is pinned, and a test runs what is in beta there: no news to a person.
    warnings.simplefilter("ignore", BetaWarning)
    warnings.simplefilter("ignore", PreviewWarning)
    from pipelines.definitions import defs

    return defs


def __dir__() -> list[str]:
    return [*globals(), *__all__]
