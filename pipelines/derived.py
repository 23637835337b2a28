"""What a recipe makes of the trained model beside its scores: students that learn from it, and features of clips."""

from dataclasses import replace

from assets.derived_stages import DistillSettings, FeatureSettings, Student, Teacher
from assets.stages import Recipe, SupervisedSettings
from assets.start import weights_sha256
from loaders.recipes import StageLoaders, kinds_of
from loaders.windows import WindowConfig
from model.optim import OptimConfig
from model.pretrainer import Pretrainer
from model.sizes import SIZES
from model.training import FitConfig
from model.weights import CheckpointError, read_config
from pipelines.paper import distillation, task_of
from warehouse.config import Config
from warehouse.toml_text import Document, suggest

SMOKE_FIT = FitConfig(400, 200, seed=0, optim=OptimConfig(2e-3, 40, betas=(0.9, 0.999)))
FRESH = "a student without weights of its own (`student_weights`) starts fresh (ours)"


def with_derived(recipe: Recipe, config: Config, loaders: StageLoaders) -> Recipe:
    """The recipe with the students and the features that the configuration asks for.

    ``loaders`` are those of its stages: a student sees what its teacher was trained on.

    Raises:
        ConfigError: a student is of no size that there is, or nothing leaves such a teacher.
    """
    training, distilled, remarks = config.training, None, dict(recipe.remarks)
    if training.students:
        teacher: Teacher = "post_pretrained" if training.teacher == "post_pretrained" else "finetuned"
        taught = recipe.post_pretrained if teacher == "post_pretrained" else recipe.finetuned
        _check(config, recipe, taught)
        loader = loaders.finetuned if teacher == "finetuned" else loaders.post_pretrained
        if recipe.name == "smoke":
            distilled = DistillSettings(_students(config), loader, SMOKE_FIT, teacher, drop_path=0.0)
            remarks["distilled"] = ("ours: seconds on a CPU",)
        else:
            collection = training.post_pretrain if teacher == "post_pretrained" else training.finetune
            task, other = task_of(kinds_of(config, collection))
            distilled, remarks["distilled"] = distillation(
                _students(config), loader, teacher, task, recipe.processes, recipe.finetuned.fit.compile
            )
            remarks["distilled"] += tuple(filter(None, (other,)))
        if len(training.student_weights) < len(training.students):
            remarks["distilled"] += (FRESH,)
    return replace(recipe, distilled=distilled, features=_features(recipe, config), remarks=remarks)


def _students(config: Config) -> tuple[Student, ...]:
    weights = config.training.student_weights
    return tuple(
        Student(size, str(weights[size]), weights_sha256(weights[size])) if size in weights else Student(size)
        for size in config.training.students
    )


def _features(recipe: Recipe, config: Config) -> FeatureSettings | None:
    """One middle square of the views of the evaluation, by as many workers."""
    if not config.training.features:
        return None
    loader = recipe.evaluation.loader
    return FeatureSettings(
        WindowConfig(
            clips_per_batch=loader.clips_per_batch * loader.views,
            frames=loader.frames,
            size=loader.size,
            every=config.training.features_every,
            sampling=loader.sampling,
            workers=loader.workers,
            prefetch_batches=loader.prefetch_batches,
        )
    )


def _check(config: Config, recipe: Recipe, taught: SupervisedSettings | None) -> None:
    document = Document(config.path)
    for size in config.training.students:
        if size not in SIZES:
            document.report(("training", "students"), f"{size!r} is no size of a model. {suggest(size, tuple(SIZES))}")
    for size, path in config.training.student_weights.items():
        try:
            held = read_config(path)[1].size.name
        except CheckpointError as error:
            convert = "`python -m model convert … --to reelhouse`"
            remedy = "" if path.exists() else f". Correct the path, or write such a file with {convert}"
            document.report(("training", "student_weights", size), f"{error}{remedy}")
        else:
            if held != size:
                document.report(("training", "student_weights", size), f"{path} holds a model of size {held!r}")
    if taught is None and (recipe.start is None or recipe.start.kind == Pretrainer.kind):
        document.report(("training", "teacher"), "nothing is post-pre-trained: name `post_pretrain`, or weights of a "
                        "classifier in `start`")
    document.raise_problems()
