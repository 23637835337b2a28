"""Presets: whole recipes by name. ``smoke`` shows that all works, ``small`` fits a GPU, ``paper`` is the paper's g."""

import torch

from assets.stages import EvaluationSettings, PretrainSettings, Recipe, SupervisedSettings
from loaders.views import EvaluationConfig, LoaderConfig
from model.optim import OptimConfig, scaled_rate
from model.training import FitConfig
from warehouse.config import Config, ConfigError


def smoke() -> Recipe:
    """A `tiny` model on 8 frames of 48 px: every stage for real in minutes on two CPU cores.

    Rates are far above those of large models and nothing regularises: few steps are taken, and the embedded corpus
    gives few clips. Crops are the mild ones, as a direction must stay in the frame to be seen.
    """
    frames, image = 8, 48
    supervised = LoaderConfig(
        clips_per_batch=24, frames=frames, size=image, crop="multi_scale", sampling="dense", workers=1
    )
    return Recipe(
        name="smoke",
        pretrained=PretrainSettings(
            size="tiny",
            loader=LoaderConfig(clips_per_batch=16, views=2, frames=frames, size=image, workers=1),
            fit=FitConfig(
                steps=1000,
                checkpoint_every=200,
                seed=0,
                optim=OptimConfig(peak_rate=3e-3, warmup_steps=100, weight_decay=0.05, betas=(0.9, 0.95)),
            ),
        ),
        post_pretrained=SupervisedSettings(
            loader=supervised,
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
            loader=supervised,
            fit=FitConfig(
                steps=150,
                checkpoint_every=75,
                seed=0,
                optim=OptimConfig(peak_rate=5e-4, warmup_steps=15, betas=(0.9, 0.999)),
            ),
            drop_path=0.0,
            label_smoothing=0.0,
        ),
        evaluation=EvaluationSettings(
            EvaluationConfig(
                clips_per_batch=8, frames=frames, size=image, temporal_views=3, spatial_views=1, workers=1
            )
        ),
        processes=1,
    )


def small() -> Recipe:
    """ViT-S on 16 × 224² for one machine with a GPU or more, by the rules of the paper at a shorter length."""
    return _vit("small", "S", clips_per_batch=32, pretrain_steps=50_000, post_steps=20_000, fine_steps=10_000)


def paper() -> Recipe:
    """ViT-g with the numbers of VideoMAE V2 (tables of pre-training, post-pre-training and fine-tuning).

    Steps are those of 300 loader epochs over 1.35M clips at 2,048 videos a step, 35 epochs of K710 at 128, and 3 epochs
    of Kinetics-400 at 32. Batches are per process: 32 videos × 4 views on each of 64 GPUs is the paper's 8,192.
    """
    processes = _processes()
    pretrain_batch = 32
    videos = pretrain_batch * processes
    return Recipe(
        name="paper",
        pretrained=PretrainSettings(
            size="g",
            loader=LoaderConfig(clips_per_batch=pretrain_batch, views=4, frames=16, size=224, workers=8),
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
            loader=LoaderConfig(clips_per_batch=2, frames=16, size=224, crop="random_resized", sampling="linspace",
                                workers=8),
            fit=FitConfig(
                steps=35 * 658_340 // 128,
                checkpoint_every=1_000,
                seed=0,
                optim=OptimConfig(
                    peak_rate=scaled_rate(1e-3, 2 * processes),
                    final_rate=scaled_rate(1e-6, 2 * processes),
                    warmup_steps=5 * 658_340 // 128,
                    weight_decay=0.1,
                    betas=(0.9, 0.999),
                    layer_decay=0.9,
                    clip_grad=5.0,
                ),
            ),
            drop_path=0.3,
            label_smoothing=0.1,
            mixup=0.8,
        ),
        finetuned=SupervisedSettings(
            loader=LoaderConfig(clips_per_batch=2, frames=16, size=224, crop="random_resized", sampling="linspace",
                                workers=8),
            fit=FitConfig(
                steps=3 * 240_436 // 32,
                checkpoint_every=1_000,
                seed=0,
                optim=OptimConfig(
                    peak_rate=scaled_rate(1e-5, 2 * processes),
                    final_rate=scaled_rate(1e-6, 2 * processes),
                    warmup_steps=0,
                    weight_decay=0.05,
                    betas=(0.9, 0.999),
                    layer_decay=0.9,
                ),
            ),
            drop_path=0.3,
            head_dropout=0.5,
            label_smoothing=0.1,
            mixup=0.8,
        ),
        evaluation=_test_views(),
        processes=processes,
    )  # fmt: skip


def _vit(
    name: str, size: str, clips_per_batch: int, pretrain_steps: int, post_steps: int, fine_steps: int
) -> Recipe:
    processes = _processes()
    videos = clips_per_batch * processes
    supervised = LoaderConfig(
        clips_per_batch=clips_per_batch, frames=16, size=224, crop="random_resized", sampling="linspace", workers=8
    )

    def fit(steps: int, base_rate: float, layer_decay: float, betas: tuple[float, float]) -> FitConfig:
        optim = OptimConfig(
            peak_rate=scaled_rate(base_rate, videos), warmup_steps=steps // 10, betas=betas, layer_decay=layer_decay
        )
        return FitConfig(steps=steps, checkpoint_every=1_000, seed=0, optim=optim)

    return Recipe(
        name=name,
        pretrained=PretrainSettings(
            size=size,
            loader=LoaderConfig(clips_per_batch=clips_per_batch, views=4, frames=16, size=224, workers=8),
            fit=fit(pretrain_steps, 1e-3, 1.0, (0.9, 0.95)),
        ),
        post_pretrained=SupervisedSettings(supervised, fit(post_steps, 7e-4, 0.75, (0.9, 0.999)), mixup=0.8),
        finetuned=SupervisedSettings(supervised, fit(fine_steps, 7e-4, 0.75, (0.9, 0.999)), mixup=0.8),
        evaluation=_test_views(),
        processes=processes,
    )


def _test_views() -> EvaluationSettings:
    """Five windows in time × three crops, as Kinetics is tested (VideoMAE V2, implementation details)."""
    return EvaluationSettings(
        EvaluationConfig(clips_per_batch=4, frames=16, size=224, temporal_views=5, spatial_views=3, workers=8)
    )


def _processes() -> int:
    return max(1, torch.cuda.device_count())


PRESETS = {"smoke": smoke, "small": small, "paper": paper}


def recipe_of(config: Config) -> Recipe:
    """The recipe that a configuration names.

    Raises:
        ConfigError: `training.preset` is no preset.
    """
    if config.training.preset not in PRESETS:
        raise ConfigError(
            config.path,
            [f"training.preset: {config.training.preset!r} is not a preset. Choose from {', '.join(PRESETS)}"],
        )
    return PRESETS[config.training.preset]()
