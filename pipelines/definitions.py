"""The code location: every asset and check of one configuration, and the job that runs them all."""

import dagster as dg
from assets.report import report_assets

from assets.checks import blocking_checks
from assets.collections import collection_assets
from assets.data import data_assets
from assets.training import training_assets
from pipelines.presets import PRESETS
from warehouse.config import Config, ConfigError, load


def build_definitions(config: Config) -> dg.Definitions:
    """Definitions for a configuration.

    Raises:
        ConfigError: `training.preset` is no preset.
    """
    if config.training.preset not in PRESETS:
        raise ConfigError(
            f"{config.path}: training.preset: there is no preset {config.training.preset!r}. "
            f"There are: {', '.join(PRESETS)}"
        )
    recipe = PRESETS[config.training.preset]()
    return dg.Definitions(
        assets=[
            *data_assets(config),
            *collection_assets(config),
            *training_assets(config, recipe),
            *report_assets(config, recipe),
        ],
        asset_checks=blocking_checks(config),
        jobs=[full_run(config)],
        # Steps run one after the other in one process: the work inside a step is spread over worker processes already,
        # and a process for each step would pay Dagster's import each time.
        executor=dg.in_process_executor,
    )


def full_run(config: Config) -> dg.UnresolvedAssetJobDefinition:
    """Everything, from annotation files to scores and the report.

    The tags make `dagster job execute`, which names no partition, run and record every source.
    """
    names = [source.name for source in config.sources]
    return dg.define_asset_job(
        "full_run",
        selection=dg.AssetSelection.all(),
        description="From annotation files to an evaluated checkpoint; does only what is not done yet.",
        tags={"dagster/asset_partition_range_start": names[0], "dagster/asset_partition_range_end": names[-1]},
    )


defs = build_definitions(load(check_files=False))
