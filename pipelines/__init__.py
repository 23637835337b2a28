"""Dagster definitions: ``dagster job execute -m pipelines -j full_run``."""

from pipelines.definitions import defs

__all__ = ["defs"]
