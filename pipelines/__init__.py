"""Dagster definitions: ``dagster job execute -m pipelines -j full_run``."""

import warnings

from dagster import BetaWarning, PreviewWarning

# Dagster's version is pinned, and a test runs what is in beta there (backfill policies, Pipes): no news to a person.
warnings.simplefilter("ignore", BetaWarning)
warnings.simplefilter("ignore", PreviewWarning)

from pipelines.definitions import defs  # noqa: E402  after the filters, which importing it needs

__all__ = ["defs"]
