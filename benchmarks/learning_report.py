"""What the learning benchmark prints: its figures as Markdown, and the statistics in them.

``python -m benchmarks.learning_report FILE [--brief]`` prints the tables of a JSON object that ``benchmarks.learning``
wrote, as they stand in RESULTS.md, or in brief as the README has them.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

T_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
"""Student's t: half of a 95 % interval in standard errors, by degrees of freedom; of more, that of 9."""
GUESSING, METADATA = "guessing", "width, height and length alone"


class Score(Protocol):
    """One trained model, as ``benchmarks.learning`` scores it."""

    @property
    def arm(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def cpu_s(self) -> float: ...
    @property
    def loss(self) -> float: ...
    @property
    def top1(self) -> float: ...


def figures(scores: Sequence[Score], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Mean and spread of each arm over the seeds, and of what the first of each pair is ahead by, seed by seed."""
    arms: dict[str, list[Score]] = {}
    for score in sorted(scores, key=lambda score: score.seed):
        arms.setdefault(score.arm, []).append(score)
    return {
        "arms": {
            arm: {
                "steps": own[0].steps,
                "cpu_s": statistics.mean(score.cpu_s for score in own),
                "loss": statistics.mean(score.loss for score in own),
                "top1": [score.top1 for score in own],
                "mean": statistics.mean(score.top1 for score in own),
                "spread": spread([score.top1 for score in own]),
            }
            for arm, own in arms.items()
        },
        "differences": [
            {"arm": one, "other": other, **difference(*([s.top1 for s in arms[name]] for name in (one, other)))}
            for one, other in pairs
        ],
    }


def difference(first: list[float], other: list[float]) -> dict[str, float]:
    """Mean and spread of what the first is ahead by, seed by seed."""
    differences = [a - b for a, b in zip(first, other, strict=True)]
    return {"mean": statistics.mean(differences), "spread": spread(differences)}


def spread(values: list[float]) -> float:
    """Standard deviation over the seeds, 0 for one seed."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown, as they go into RESULTS.md."""
    rendered, schedule, masking = result["rendered"], result["schedule"], result["masking"]
    clips = rendered["clips"]
    losses = ", ".join(f"{loss:.3f}" for loss in rendered["held_out_loss"])
    lines = [
        f"**Rendered clips**: top-1 on {clips['held_out']} clips that no arm has seen. {schedule['labels_per_class']} "
        f"labelled clips a class ({clips['labelled']} in all), {clips['unlabelled']} without labels, {clips['merged']} "
        "labelled ones of two other sources for post-pre-training.",
        "",
        *_table(rendered, clips["chance"]),
        "",
        f"Pre-training's loss on the held-out clips: {losses}; predicting each cube's mean gives "
        f"{rendered['loss_of_predicting_the_mean']:.3f}.",
        "",
        f"A step of pre-training takes {1000 * masking['cpu_s_dual']:.0f} CPU-ms with dual masking and "
        f"{1000 * masking['cpu_s_encoder_only']:.0f} with encoder masking: **{masking['ratio']:.2f} times** "
        f"({masking['least']:.2f} to {masking['most']:.2f} in {masking['turns']} turns).",
    ]
    real = result["real"]
    if real:
        known = real["clips"]
        lines += [
            "",
            f"**UT-Interaction**: {known['scored']} clips of people, each scored once by a model that saw nothing of "
            f"its sequence ({known['folds']} folds), {known['labelled']} labelled clips to learn from and "
            f"{known['unlabelled']} without labels.",
            "",
            *_table(real, known["chance"], {METADATA: known["top1_metadata_only"]}),
        ]
    return "\n".join(lines)


def brief(result: dict[str, Any]) -> str:
    """Both corpora in one table: mean and spread over the seeds, in percent."""
    parts = [result["rendered"], *([result["real"]] if result["real"] else [])]
    names = ("rendered clips", "UT-Interaction")[: len(parts)]
    lines = [f"| top-1, % | {' | '.join(names)} |", f"|---|{'---:|' * len(parts)}"]
    for arm in dict.fromkeys(name for part in parts for name in part["arms"]):
        found = [part["arms"].get(arm) for part in parts]
        cells = [f"{100 * one['mean']:.1f} ± {100 * one['spread']:.1f}" if one else "" for one in found]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    if result["real"]:
        lines.append(f"| {METADATA} | | {100 * result['real']['clips']['top1_metadata_only']:.1f} |")
    chances = " | ".join(f"{100 * part['clips']['chance']:.1f}" for part in parts)
    return "\n".join([*lines, f"| {GUESSING} | {chances} |"])


def _table(part: dict[str, Any], chance: float, more: dict[str, float] | None = None) -> list[str]:
    """The arms of one corpus, what they are beside, and their differences."""
    seeds = max(len(arm["top1"]) for arm in part["arms"].values())
    lines = [
        f"| arm | steps | CPU-s | {' | '.join(f'seed {seed}' for seed in range(seeds))} | mean ± sd | training loss |",
        f"|---|---:|---:|{'---:|' * seeds}---:|---:|",
    ]
    for name, arm in part["arms"].items():
        each = " | ".join(f"{top1:.3f}" for top1 in arm["top1"])
        lines.append(
            f"| {name} | {arm['steps']:,} | {arm['cpu_s']:.0f} | {each} | {arm['mean']:.3f} ± {arm['spread']:.3f} | "
            f"{arm['loss']:.3f} |"
        )
    for name, value in {GUESSING: chance, **(more or {})}.items():
        lines.append(f"| {name} | | | {' | '.join([''] * seeds)} | {value:.3f} | |")
    return [*lines, "", *(_sentence(each, seeds) for each in part["differences"])]


def _sentence(each: dict[str, Any], seeds: int) -> str:
    mean, spread = each["mean"], each["spread"]
    said = f"- {each['arm']} − {each['other']}: {100 * mean:+.1f} ± {100 * spread:.1f} points, by seed"
    if seeds == 1:
        return f"{said} (one seed: nothing is told from chance)."
    half = T_95[min(seeds - 1, len(T_95))] * spread / seeds**0.5
    judgement = "clear of 0" if abs(mean) > half else "not told from 0 with so few seeds"
    return f"{said} (95 %: {100 * (mean - half):+.1f} to {100 * (mean + half):+.1f}; {judgement})."


def main() -> None:
    """Print the tables of a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning_report", description=__doc__)
    parser.add_argument("file", type=Path, help="what `python -m benchmarks.learning --json` printed")
    parser.add_argument("--brief", action="store_true", help="one table, as in the README")
    asked = parser.parse_args()
    result = json.loads(asked.file.read_text())
    print(brief(result) if asked.brief else table(result))


if __name__ == "__main__":
    main()
