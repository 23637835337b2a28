"""What a person wants to see after a run: what the data is made of, what is out, and what came of training."""

from assets.amounts import share_text
from assets.report_facts import ask, cautions, interval, models_of, scores_of, stage_facts
from assets.run_previews import MODEL_COLUMNS, model_rows
from assets.stages import Recipe
from warehouse.catalog.build import connect
from warehouse.commands.printing import print_table
from warehouse.config import Config
from warehouse.store import Store


def print_summary(config: Config, recipe: Recipe) -> None:
    """Print the summary from the catalog as it is now.

    Raises:
        CatalogError: there is no catalog yet.
    """
    store = Store(config.data_root)
    with connect(store) as connection:
        composition = ask(connection, "SELECT * FROM composition")
        exclusions = ask(
            connection,
            "SELECT collection, reason, source, sum(clips)::INTEGER AS clips FROM exclusions GROUP BY ALL ORDER BY ALL",
        )
        leaks = [
            ask(connection, f"SELECT count(DISTINCT clip_id) FROM {view}").rows[0][0]
            for view in ("leaks_found", "leaks")
        ]
    print("\nComposition: what the collections are made of\n")
    names = (*composition.names[:-1], "MB in shards")
    print_table(names, [(*row[:-1], round(row[-1] / 1e6, 2)) for row in composition.rows])
    print("\nExclusions: what is out of a collection, and why\n")
    print_table(exclusions.names, exclusions.rows)
    print(f"\n{leaks[0]} training clips repeat a validation or test clip; {leaks[1]} of them are in a training split.")

    stages = stage_facts(store, config, recipe)
    start = f", from {recipe.start.path}" if recipe.start else ""
    print(f"\nTraining (preset {recipe.name}{start})\n")
    print_table(
        ("stage", "collection", "status", "attempts", "steps", "seconds", "last loss"),
        [
            (
                stage.name,
                stage.collection,
                stage.status,
                stage.attempts,
                stage.steps,
                None if stage.seconds is None else round(stage.seconds, 1),
                round(stage.progress[-1]["loss"], 3) if stage.progress else None,
            )
            for stage in stages
        ],
    )
    for stage in (stage for stage in stages if stage.name == "evaluation"):
        scores = scores_of(store, stage)
        if scores is not None:
            clips = f"{scores.clips} {scores.split} clips of {scores.collection}"
            print(f"\nAccuracy on {clips}, {scores.views} views each\n")
            print_table(("accuracy", "%"), [(name, round(100 * value, 1)) for name, value in scores.figures])
            low, high = interval(scores.top1, scores.clips)
            print(f"\n{scores.verdict} 95% interval for the choice of clips: {share_text(low)} to {share_text(high)}.")
            print(cautions(recipe))
    if models := models_of(store, stages):
        print("\nStudents beside their teacher\n")
        print_table(MODEL_COLUMNS, model_rows(models))
    report = store.root / "report.html"
    print(f"\nReport: {report}" if report.exists() else "\nNo report yet: materialise the asset `report`.")
