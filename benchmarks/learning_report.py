"""What the learning benchmark prints: its figures as Markdown, and the statistics in them."""

import statistics
from typing import Any


def difference(pretrained: list[float], other: list[float]) -> dict[str, float]:
    """Mean and spread of what the first is ahead by, seed by seed."""
    differences = [a - b for a, b in zip(pretrained, other, strict=True)]
    return {"mean": statistics.mean(differences), "spread": spread(differences)}


def spread(values: list[float]) -> float:
    """Standard deviation over the seeds, 0 for one seed."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown, as they go into RESULTS.md."""
    clips, schedule, pretraining = result["clips"], result["schedule"], result["pretraining"]
    seeds = sorted({score["seed"] for score in result["scores"]})
    lines = [
        f"Held-out top-1 over {len(seeds)} seeds: {clips['held_out']} clips that no arm has seen; fine-tuning on "
        f"{clips['labelled']} labelled clips ({min(clips['labelled_per_class'].values())} to "
        f"{max(clips['labelled_per_class'].values())} a class), pre-training on {clips['unlabelled']} without labels "
        f"for {schedule['pretrain_steps']} steps.",
        "",
        f"| arm | steps | {' | '.join(f'seed {seed}' for seed in seeds)} | mean ± sd | training loss |",
        f"|---|---:|{'---:|' * len(seeds)}---:|---:|",
    ]
    for arm, top1 in result["top1"].items():
        own = [score for score in result["scores"] if score["arm"] == arm]
        each = " | ".join(f"{score['top1']:.3f}" for score in own)
        loss = statistics.mean(score["loss"] for score in own)
        lines.append(f"| {arm} | {own[0]['steps']} | {each} | {top1['mean']:.3f} ± {top1['spread']:.3f} | {loss:.3f} |")
    for name, key in (("guessing", "chance_uniform"), ("naming the largest class", "chance_largest_class")):
        lines.append(f"| {name} | | {' | '.join([''] * len(seeds))} | {result[key]:.3f} | |")
    lines += ["", *(_sentence(other, difference, len(seeds)) for other, difference in result["difference"].items())]
    losses = ", ".join(f"{loss:.4f}" for loss in pretraining["held_out_loss"])
    lines += [
        "",
        f"Pre-training's loss on the held-out clips: {losses}; predicting the mean gives "
        f"{pretraining['loss_of_predicting_the_mean']:.4f}: "
        + ("**passed**, below it for every seed." if pretraining["below_the_mean"] else "**failed**, not below it."),
    ]
    return "\n".join(lines)


def _sentence(other: str, difference: dict[str, float], seeds: int) -> str:
    mean, spread = difference["mean"], difference["spread"]
    # Two standard errors of a mean of so few is a rule of thumb, and said as one.
    clear = seeds > 1 and abs(mean) > 2 * spread / seeds**0.5
    judgement = "more than two standard errors" if clear else "not told from nothing with so few seeds"
    return f"- pretrained − {other}: {100 * mean:+.1f} ± {100 * spread:.1f} points, paired by seed ({judgement})."
