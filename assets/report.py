"""The asset `report`: the last of the job, and the page that a person opens."""

import dagster as dg

from assets.amounts import share_text
from assets.report_facts import models_of, scores_of, stage_facts
from assets.report_page import build_report
from assets.stages import Recipe
from warehouse.config import Config
from warehouse.store import Store


def report_assets(config: Config, recipe: Recipe) -> list[dg.AssetsDefinition]:
    """The asset `report`."""
    store = Store(config.data_root)

    @dg.asset(group_name="training", kinds={"html"}, deps=["evaluation"])
    def report() -> dg.MaterializeResult:
        """`report.html`: composition, exclusions, losses, reconstructions, accuracy; `leaks.html`: leaks in pairs."""
        path = build_report(store, config, recipe)
        stages = stage_facts(store, config, recipe)
        scores = [found for s in stages if s.name == "evaluation" and (found := scores_of(store, s))]
        lines = ["| accuracy | |", "|---|---:|"]
        lines += [f"| {name} | {share_text(value)} |" for score in scores for name, value in score.figures]
        lines += [f"| top-1 of {model.name} | {share_text(model.top1)} |" for model in models_of(store, stages)[1:]]
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(path),
                "leaks": dg.MetadataValue.path(path.with_name("leaks.html")),
                "accuracy": dg.MetadataValue.md("\n".join(lines)),
            }
        )

    return [report]
