"""Presets: whole recipes by name. ``smoke`` shows that all works, ``small`` fits a GPU, ``paper`` is the paper's g.

What their stages load, with its augmentations, is in ``loaders.recipes``; here are models and schedules.
"""

from dataclasses import replace

import torch

from assets.stages import EvaluationSettings, PretrainSettings, Recipe, SupervisedSettings
from loaders import recipes
from loaders.views import LoaderConfig
from model.optim import OptimConfig, scaled_rate
from model.training import FitConfig
from warehouse.config import Config


def smoke() -> Recipe:
    """A `tiny` model on 8 frames of 48 px: every stage for real in minutes on two CPU cores.

    Rates are far above those of large models and nothing regularises: few steps are taken, and the embedded corpus
    gives few clips.
    """
    loaders = recipes.smoke()
    return Recipe(
        name="smoke",
        pretrained=PretrainSettings(
            size="tiny",
            loader=loaders.pretrained,
            fit=FitConfig(
                steps=1000,
                checkpoint_every=200,
                seed=0,
                optim=OptimConfig(peak_rate=3e-3, warmup_steps=100, weight_decay=0.05, betas=(0.9, 0.95)),
            ),
        ),
        post_pretrained=SupervisedSettings(
            loader=loaders.post_pretrained,
            fit=FitConfig(
                steps=700,
                checkpoint_every=200,
                seed=0,
                optim=OptimConfig(peak_rate=1.5e-3, warmup_steps=70, betas=(0.9, 0.999)),
            ),
            drop_path=0.0,
            label_smoothing=0.0,
        ),
        finetuned=SupervisedSettings(
            loader=loaders.finetuned,
            fit=FitConfig(
                steps=150,
                checkpoint_every=75,
                seed=0,
                optim=OptimConfig(peak_rate=5e-4, warmup_steps=15, betas=(0.9, 0.999)),
            ),
            drop_path=0.0,
            label_smoothing=0.0,
        ),
        evaluation=EvaluationSettings(loaders.evaluation),
        processes=1,
    )


def small() -> Recipe:
    """ViT-S on 16 × 224² for one machine with a GPU or more, by the rules of the paper at a shorter length."""
    return _vit("small", "S", recipes.small(), pretrain_steps=50_000, post_steps=20_000, fine_steps=10_000)


def paper() -> Recipe:
    """ViT-g with the numbers of VideoMAE V2 (tables of pre-training, post-pre-training and fine-tuning).

    Steps are those of 300 loader epochs over 1.35M clips at 2,048 videos a step, 35 epochs of K710 at 128, and 3 epochs
    of Kinetics-400 at 32. Batches are per process: 32 videos × 4 views on each of 64 GPUs is the paper's 8,192.
    """
    processes, loaders = _processes(), recipes.paper()
    videos, post_videos, fine_videos = (
        loader.clips_per_batch * processes
        for loader in (loaders.pretrained, loaders.post_pretrained, loaders.finetuned)
    )
    return Recipe(
        name="paper",
        pretrained=PretrainSettings(
            size="g",
            loader=loaders.pretrained,
            fit=FitConfig(
                steps=300 * 1_348_000 // 2048,
                checkpoint_every=1_000,
                seed=0,
                optim=OptimConfig(
                    peak_rate=scaled_rate(6e-4, videos),
                    final_rate=scaled_rate(1e-5, videos),
                    warmup_steps=30 * 1_348_000 // 2048,
                    weight_decay=0.05,
                    betas=(0.9, 0.95),
                    clip_grad=0.02,
                ),
            ),
        ),
        post_pretrained=SupervisedSettings(
            loader=loaders.post_pretrained,
            fit=FitConfig(
                steps=35 * 658_340 // 128,
                checkpoint_every=1_000,
                seed=0,
                optim=OptimConfig(
                    peak_rate=scaled_rate(1e-3, post_videos),
                    final_rate=scaled_rate(1e-6, post_videos),
                    warmup_steps=5 * 658_340 // 128,
                    weight_decay=0.1,
                    betas=(0.9, 0.999),
                    layer_decay=0.9,
                    clip_grad=5.0,
                ),
            ),
            drop_path=0.3,
            label_smoothing=0.1,
        ),
        finetuned=SupervisedSettings(
            loader=loaders.finetuned,
            fit=FitConfig(
                steps=3 * 240_436 // 32,
                checkpoint_every=1_000,
                seed=0,
                optim=OptimConfig(
                    peak_rate=scaled_rate(1e-5, fine_videos),
                    final_rate=scaled_rate(1e-6, fine_videos),
                    warmup_steps=0,
                    weight_decay=0.05,
                    betas=(0.9, 0.999),
                    layer_decay=0.9,
                ),
            ),
            drop_path=0.3,
            head_dropout=0.5,
            label_smoothing=0.1,
        ),
        evaluation=EvaluationSettings(loaders.evaluation),
        processes=processes,
    )  # fmt: skip


def _vit(
    name: str, size: str, loaders: recipes.StageLoaders, pretrain_steps: int, post_steps: int, fine_steps: int
) -> Recipe:
    processes = _processes()

    def fit(
        loader: LoaderConfig, steps: int, base_rate: float, layer_decay: float, betas: tuple[float, float]
    ) -> FitConfig:
        rate = scaled_rate(base_rate, loader.clips_per_batch * processes)
        optim = OptimConfig(peak_rate=rate, warmup_steps=steps // 10, betas=betas, layer_decay=layer_decay)
        return FitConfig(steps=steps, checkpoint_every=1_000, seed=0, optim=optim)

    return Recipe(
        name=name,
        pretrained=PretrainSettings(
            size, loaders.pretrained, fit(loaders.pretrained, pretrain_steps, 1e-3, 1.0, (0.9, 0.95))
        ),
        post_pretrained=SupervisedSettings(
            loaders.post_pretrained, fit(loaders.post_pretrained, post_steps, 7e-4, 0.75, (0.9, 0.999))
        ),
        finetuned=SupervisedSettings(loaders.finetuned, fit(loaders.finetuned, fine_steps, 7e-4, 0.75, (0.9, 0.999))),
        evaluation=EvaluationSettings(loaders.evaluation),
        processes=processes,
    )


def _processes() -> int:
    return max(1, torch.cuda.device_count())


PRESETS = {"smoke": smoke, "small": small, "paper": paper}


def recipe_of(config: Config) -> Recipe:
    """The recipe that a configuration names, with the loaders that its sources call for.

    Raises:
        ConfigError: `training.preset` is no preset.
    """
    loaders = recipes.stage_loaders(config)
    recipe = PRESETS[config.training.preset]()
    return replace(
        recipe,
        pretrained=replace(recipe.pretrained, loader=loaders.pretrained),
        post_pretrained=replace(recipe.post_pretrained, loader=loaders.post_pretrained),
        finetuned=replace(recipe.finetuned, loader=loaders.finetuned),
        evaluation=replace(recipe.evaluation, loader=loaders.evaluation),
    )
