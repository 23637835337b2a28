"""The numbers that a configuration gives in the place of a preset's (``[training.numbers.STAGE]``)."""

from dataclasses import replace

from assets.schedule import Epochs
from assets.stages import Recipe, Trained, videos_per_step
from model.optim import scaled_rate
from pipelines.batches import split
from warehouse.config import Config
from warehouse.toml_text import Document
from warehouse.training_numbers import TABLE, Numbers


def with_numbers(recipe: Recipe, config: Config) -> Recipe:
    """The recipe with the configuration's numbers, and a remark on them.

    Raises:
        ConfigError: they are given for a stage that does not run.
    """
    if not config.training.numbers:
        return recipe
    document, remarks = Document(config.path), dict(recipe.remarks)
    settings = {stage: getattr(recipe, stage) for stage in config.training.numbers}
    for stage, numbers in config.training.numbers.items():
        if settings[stage] is None:
            document.report((*TABLE, stage), "no such stage runs here. Remove this table")
            continue
        settings[stage] = in_their_place(settings[stage], numbers, recipe.processes)
        given = ", ".join(f"{name} {value:g}" for name, value in numbers.given.items())
        remarks[stage] = (*remarks.get(stage, ()), f"not the preset's, but of {config.path.name}: {given}")
    document.raise_problems()
    return replace(recipe, **settings, remarks=remarks)


def in_their_place(settings: Trained, numbers: Numbers, processes: int) -> Trained:
    """A stage's settings with other numbers.

    Rates go by the linear rule where the videos of a step change. The warm-up keeps its part of all steps.
    """
    fit, before = settings.fit, videos_per_step(settings, processes)
    dealt = split(numbers.videos or before, numbers.clips_per_gpu or settings.loader.clips_per_batch, processes)
    linear = dealt.videos / before
    peak = fit.optim.peak_rate * linear if numbers.rate is None else scaled_rate(numbers.rate, dealt.videos)
    warmup = fit.optim.warmup_steps / fit.steps
    if settings.epochs is not None:
        warmup = settings.epochs.warmup / settings.epochs.count
    if numbers.warmup is not None:
        warmup = numbers.warmup
    optim = replace(
        fit.optim,
        peak_rate=peak,
        final_rate=min(fit.optim.final_rate * linear, peak),
        warmup_steps=round(warmup * fit.steps),
        clip_grad=fit.optim.clip_grad if numbers.clip_grad is None else numbers.clip_grad,
    )
    fit = replace(fit, optim=optim, accumulate=dealt.accumulate)
    count, epochs = numbers.epochs, None
    if count is None and settings.epochs is not None:
        count = settings.epochs.count
    if count is not None:
        epochs = Epochs(count, warmup * count)
    if epochs is not None and settings.epochs is not None:
        # Until its own clips are counted, of the collection that the preset has in mind.
        fit = epochs.fit(fit, round(settings.fit.steps * before / settings.epochs.count), dealt.videos)
    loader = replace(settings.loader, clips_per_batch=dealt.clips)
    return replace(settings, loader=loader, fit=fit, epochs=epochs)
