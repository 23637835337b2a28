"""How near students come to their teacher, on the clips that all of them were scored on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from assets.derived_runs import STUDENT, TEACHER
from assets.stages import RunSpec
from warehouse.store import Store

AGREEMENT = "agreement_with_teacher"
"""The metric's name in `scores`: share of the clips of which a student says the same class as its teacher."""


@dataclass(frozen=True)
class ModelScores:
    """A model's accuracy, in 0 to 1; ``agreement`` is None for the teacher, and a model that was not taught."""

    name: str
    checkpoint: str
    clips: int
    top1: float
    top5: float
    agreement: float | None


def compared(store: Store, specs: Mapping[str, RunSpec]) -> list[ModelScores]:
    """The scores of every evaluation of ``specs`` (by name, as ``assets.training.run_specs`` has them) that is done."""
    found = []
    for name, spec in specs.items():
        scores = {row["metric"]: row["value"] for row in store.rows("scores", spec.run_id)}
        if spec.stage != "evaluation" or not scores:
            continue
        model = "fine-tuned" if name == "evaluation" else name.removeprefix("evaluation of ")
        row = ModelScores(
            model, spec.parent or "", int(scores["clips"]), scores["top1"], scores["top5"], scores.get(AGREEMENT)
        )
        found.append(row)
    return found


def note_agreement(store: Store, specs: Mapping[str, RunSpec]) -> bool:
    """Add the agreement to the scores of the students that lack it and have been evaluated, as their teacher has.

    Returns whether any was added.
    """
    own, added = _predictions(store, specs.get(TEACHER, specs["evaluation"])), False
    for name, spec in specs.items():
        rows, said = store.rows("scores", spec.run_id), _predictions(store, spec)
        known = any(row["metric"] == AGREEMENT for row in rows)
        if known or not name.startswith(STUDENT) or name == TEACHER or not own.keys() == said.keys() > set():
            continue
        share = sum(own[clip] == said[clip] for clip in own) / len(own)
        store.write("scores", [*rows, rows[0] | {"metric": AGREEMENT, "value": share}], spec.run_id)
        added = True
    return added


def _predictions(store: Store, spec: RunSpec) -> dict[str, str]:
    path = store.runs / spec.run_id / "result.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    return result.get("predictions", {})
