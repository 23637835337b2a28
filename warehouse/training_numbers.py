"""The numbers of a training stage that a configuration gives in the place of its preset's."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from warehouse.toml_text import Section, suggest

STAGES = ("pretrained", "post_pretrained", "finetuned", "distilled")
"""The stages that train."""
TABLE = ("training", "numbers")


@dataclass(frozen=True)
class Numbers:
    """What ``[training.numbers.STAGE]`` gives; ``None`` is as the preset has it.

    Attributes:
        videos: of a step over all GPUs.
        clips_per_gpu: of a batch on each GPU, at most; as many batches as it takes are accumulated to a step.
        epochs: of the collection, each clip once.
        warmup: the part of all steps in which the rate rises, from 0 to below 1.
        rate: the peak, for 256 videos a step (the linear rule makes it that of the step).
        clip_grad: the norm that gradients are scaled down to.
    """

    videos: int | None = None
    clips_per_gpu: int | None = None
    epochs: float | None = None
    warmup: float | None = None
    rate: float | None = None
    clip_grad: float | None = None

    @property
    def given(self) -> dict[str, float]:
        """Those that are not the preset's."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


def read_numbers(training: Section) -> Mapping[str, Numbers]:
    """The tables ``[training.numbers.STAGE]`` of the table ``[training]``, by stage; reports what is wrong in them."""
    tables = training.sections(TABLE[-1])
    for stage in tables.keys() - set(STAGES):
        training.document.report((*TABLE, stage), f"is no stage that trains. {suggest(stage, STAGES)}")
    return {stage: _numbers(tables[stage]) for stage in STAGES if stage in tables}


def _numbers(section: Section) -> Numbers:
    def whole(name: str) -> int | None:
        return section.count(name) if name in section else None

    def above_0(name: str) -> float | None:
        value = section.number(name, 0) if name in section else None
        if value == 0:
            section.report(name, "must be a number above 0")
        return value

    warmup = section.number("warmup", 0) if "warmup" in section else None
    if warmup is not None and warmup >= 1:
        section.report("warmup", f"is a part of all steps, from 0 to below 1, not {warmup:g}")
    numbers = Numbers(
        whole("videos"), whole("clips_per_gpu"), above_0("epochs"), warmup, above_0("rate"), above_0("clip_grad")
    )
    section.finish()
    return numbers
