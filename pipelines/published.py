"""The numbers of VideoMAE V2 (arXiv 2303.16727), a row for each stage and size; what no source gives is named as ours.

The paper is followed where it has a column, which it has for g alone, and the released scripts elsewhere; where a
script has no value, the default of ``run_class_finetuning.py``. Rates are for 256 videos, a video counted once however
many views of it there are, as in the scripts; the paper's, for 256 views, are a quarter of them in pre-training. Epochs
count a video once too: 300 of pre-training are the paper's 1200.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

SIZES = ("S", "B", "L", "H", "g")
Task = Literal["kinetics", "something_something", "ucf101", "hmdb51"]
"""What fine-tuning has rows for."""
PRETRAINING_CLIPS = 1_348_000
"""UnlabeledHybrid (paper, its table of the parts)."""
POST_PRETRAINING_CLIPS = 658_340
FINETUNING_CLIPS: Mapping[Task, int] = {
    "kinetics": 240_436,  # K400
    "something_something": 168_913,  # V2
    "ucf101": 9_537,
    "hmdb51": 3_570,
}
"""Training videos of the official lists, and of the first splits of UCF101 and HMDB51."""


@dataclass(frozen=True)
class Row:
    """A stage for a size. The defaults are those of the released fine-tuning script.

    Attributes:
        follows: the table of the paper or the script that the numbers are from.
        videos, per_gpu: videos of a step over all GPUs, and how many of them a GPU holds at a time, at most.
        epochs, warmup: epochs of the collection.
        base_rate, final_rate: for 256 videos: applied are these times ``videos`` / 256.
        checkpointing: of activations, block by block.
        notes: what another source says instead, and what is ours.
    """

    follows: str
    videos: int
    per_gpu: int
    epochs: int
    base_rate: float
    warmup: int = 5
    final_rate: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05
    clip_grad: float | None = None
    layer_decay: float = 1.0
    drop_path: float = 0.1
    head_dropout: float = 0.0
    label_smoothing: float = 0.1
    checkpointing: bool = False
    notes: tuple[str, ...] = ()


def _pretraining(
    follows: str, gpus: int, epochs: int, rate: float, checkpointing: bool, clip: float | None = None,
    notes: tuple[str, ...] = (),
) -> Row:  # fmt: skip
    """32 videos × 4 views on each of ``gpus``; nothing regularises (§3.4 of the paper, scripts/pretrain)."""
    return Row(
        follows, gpus * 32, 32, epochs, rate, epochs // 10, 1e-5, (0.9, 0.95), clip_grad=clip, drop_path=0.0,
        label_smoothing=0.0, checkpointing=checkpointing, notes=notes,
    )  # fmt: skip


PRETRAINING: Mapping[str, Row] = {
    "B": _pretraining(
        "script of ViT-B, pre-training", 32, 200, 1e-3, False,
        notes=("a table of the paper has 1200 epochs of views for B; script and released weights have 800",),
    ),
    "L": _pretraining("script of ViT-L, pre-training", 48, 300, 1e-3, False),
    "H": _pretraining("script of ViT-H, pre-training", 64, 300, 1e-3, True),
    "g": _pretraining("paper, table of pre-training; script of ViT-g, pre-training", 64, 300, 6e-4, True, 0.02),
}  # fmt: skip

POST_PRETRAINING: Mapping[str, Row] = {
    "B": Row("script of ViT-B, Kinetics-710", 512, 16, 90, 7e-4, layer_decay=0.75),
    "H": Row("script of ViT-H, Kinetics-710", 128, 4, 40, 1e-3, layer_decay=0.8, drop_path=0.2, head_dropout=0.5),
    "g": Row(
        "paper, table of post-pre-training", 128, 3, 35, 1e-3, weight_decay=0.1, clip_grad=5.0, layer_decay=0.9,
        drop_path=0.3, notes=("the script has 96 videos a step, not 128",),
    ),
}  # fmt: skip

_BATCH_OF_KINETICS = "no source gives videos a step: those of this size on Kinetics (ours)"
_NOT_V1 = "for Something-Something V1 no source has this size: as for V2 (ours)"

DIRECT: Mapping[tuple[Task, str], Row] = {
    ("kinetics", "B"): Row("script of ViT-B, Kinetics-400", 512, 16, 90, 7e-4, layer_decay=0.75),
    ("kinetics", "L"): Row("script of ViT-L, Kinetics-400", 192, 6, 35, 2e-3, layer_decay=0.75, drop_path=0.2),
    ("kinetics", "H"): Row(
        "script of ViT-H, Kinetics-400", 128, 4, 40, 1e-3, layer_decay=0.8, drop_path=0.2, head_dropout=0.5
    ),
    ("kinetics", "g"): Row(
        "script of ViT-g, Kinetics-400", 192, 3, 30, 1e-3, weight_decay=0.1, layer_decay=0.9, drop_path=0.2
    ),
    ("something_something", "B"): Row(
        "script of ViT-B, Something-Something V2", 256, 16, 25, 2e-3, layer_decay=0.65,
        notes=(_NOT_V1,),
    ),
    ("something_something", "L"): Row(
        "script of ViT-L, Something-Something V2", 192, 6, 20, 5e-4, layer_decay=0.75, drop_path=0.2,
        notes=(_BATCH_OF_KINETICS, "no source gives its layer decay: that on Kinetics (ours)", _NOT_V1),
    ),
    ("something_something", "H"): Row(
        "script of ViT-H, Something-Something V2", 128, 4, 20, 5e-4, layer_decay=0.8, drop_path=0.2,
        notes=(_BATCH_OF_KINETICS, _NOT_V1),
    ),
    ("something_something", "g"): Row(
        "paper, table of fine-tuning, Something-Something", 96, 3, 10, 3e-4, layer_decay=0.9, drop_path=0.35,
        head_dropout=0.5, notes=("the script has 20 epochs, drop path 0.25 and no head dropout",),
    ),
    ("ucf101", "g"): Row(
        "paper, table of fine-tuning, UCF101", 24, 3, 50, 1e-3, layer_decay=0.9, drop_path=0.35, head_dropout=0.5
    ),
    ("hmdb51", "g"): Row(
        "paper, table of fine-tuning, HMDB51", 24, 3, 15, 5e-4, layer_decay=0.9, drop_path=0.35, head_dropout=0.5,
        notes=("paper and script sample HMDB51 at different strides; the paper's is 2",),
    ),
}  # fmt: skip
"""Fine-tuning from pre-trained weights: the scores without extra labels."""

AFTER_K710: Mapping[str, Row] = {
    "g": Row(
        "paper, table of fine-tuning, Kinetics after K710", 32, 3, 3, 1e-5, 0, layer_decay=0.9, drop_path=0.3,
        head_dropout=0.5,
        notes=(
            "the script has 96 videos a step, a warm-up of 1 epoch, weight decay 0.1, drop path 0.25 and no head "
            "dropout",
        ),
    ),
}  # fmt: skip
"""Fine-tuning on Kinetics from post-pre-trained weights."""


_STUDENT = Row(
    "paper, table of distillation, Kinetics-710", 1024, 16, 100, 1e-3, layer_decay=0.75, clip_grad=1.0,
    notes=("no code was released; the paper's students start from weights post-pre-trained on K710",),
)  # fmt: skip
DISTILLATION: Mapping[Literal["kinetics", "something_something"], Row] = {
    "kinetics": _STUDENT,
    "something_something": replace(
        _STUDENT, follows="paper, table of distillation, Something-Something V2", videos=512, base_rate=5e-4
    ),
}
"""Students of g: of its post-pre-trained weights on K710, of its fine-tuned ones on Something-Something V2."""


def pretraining(size: str) -> Row:
    """The row of pre-training. S has no script: it takes B's."""
    return PRETRAINING[size] if size in PRETRAINING else _as_b(size, PRETRAINING["B"])


def post_pretraining(size: str) -> Row:
    """The row of post-pre-training. L has none, and takes its row for Kinetics-400: those of B and H are the same."""
    if size == "L":
        note = "no source has this stage for L: its numbers for Kinetics-400, which are the same for B and for H (ours)"
        return replace(DIRECT["kinetics", "L"], notes=(note,))
    return POST_PRETRAINING[size] if size in POST_PRETRAINING else _as_b(size, POST_PRETRAINING["B"])


def finetuning(task: Task, size: str, after_k710: bool) -> Row:
    """The row of fine-tuning. Where there is only one for g, the size keeps its own regularisation."""
    if size == "S":
        return _as_b(size, finetuning(task, "B", after_k710))
    if task == "kinetics" and after_k710:
        return AFTER_K710[size] if size in AFTER_K710 else _as_g(AFTER_K710["g"], size)
    row = DIRECT[task, size] if (task, size) in DIRECT else _as_g(DIRECT[task, "g"], size)
    if after_k710 and task == "something_something":
        note = "the paper starts from pre-trained weights here: post-pre-training made the scores worse"
        return replace(row, notes=(*row.notes, note))
    return row


def _as_b(size: str, row: Row) -> Row:
    return replace(row, notes=(*row.notes, f"no source has numbers for {size}: those of B (ours)"))


def _as_g(row: Row, size: str) -> Row:
    """A row of g's for another size."""
    own = DIRECT["kinetics", size]
    kept = f"layer decay, drop path and head dropout of {size} on Kinetics"
    note = f"no source has numbers for {size}: those of g, with {kept} (ours)"
    return replace(
        row, layer_decay=own.layer_decay, drop_path=own.drop_path, head_dropout=own.head_dropout, notes=(note,)
    )
