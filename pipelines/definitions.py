"""The code location: every asset and check of one configuration, and the job that runs them all."""

import dagster as dg

from assets.checks import blocking_checks
from assets.collections import collection_assets
from assets.data import data_assets
from assets.report import report_assets
from assets.stages import Recipe
from assets.training import training_assets
from pipelines.presets import recipe_of
from warehouse.config import Config, ConfigError, load


def build_definitions(config: Config, recipe: Recipe) -> dg.Definitions:
    """Definitions for a configuration, trained by a recipe.

    Raises:
        ConfigError: a collection has the name of another asset.
    """
    names = [source.name for source in config.sources]
    full_run = dg.define_asset_job(
        "full_run",
        selection=dg.AssetSelection.all(),
        description="From annotation files to an evaluated checkpoint; does only what is not done yet.",
        # `dagster job execute` names no partition: these tags make it run and record every source.
        tags={"dagster/asset_partition_range_start": names[0], "dagster/asset_partition_range_end": names[-1]},
    )
    fixed = [*data_assets(config), *training_assets(config, recipe), *report_assets(config, recipe)]
    taken = {key.to_user_string() for asset in fixed for key in asset.keys} | {"catalog"}
    names_in_use = [c.name for c in config.collections if c.name in taken]
    clashes = [f"collections.{name}: an asset has this name. Choose another" for name in names_in_use]
    if clashes:
        raise ConfigError(config.path, clashes)
    return dg.Definitions(
        assets=[*fixed, *collection_assets(config)],
        asset_checks=blocking_checks(config),
        jobs=[full_run],
        # Steps run one after the other in one process: the work inside a step is spread over worker processes already,
        # and a process for each step would pay Dagster's import each time.
        executor=dg.in_process_executor,
    )


CONFIG = load(check_files=False)
defs = build_definitions(CONFIG, recipe_of(CONFIG))
