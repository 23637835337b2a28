"""Distillation: a large classifier teaches smaller ones, several at once from one forward pass of its own.

VideoMAE V2 distils its g into S and B (its table of the distillation setting; no code was released): the
Kullback-Leibler divergence between the softened probabilities of teacher and student, at temperature 3. Teacher and
student see the same augmented, mixed view, as in function matching (Beyer et al., "Knowledge distillation: A good
teacher is patient and consistent"). Labels are not looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from model.classifier import Classifier, ClassifierConfig
from model.flops import distillation_flops
from model.objectives import ClipBatch, Draw, mixed_precision
from model.pretrainer import Pretrainer, PretrainerConfig
from model.transfer import from_pretrainer


@dataclass(frozen=True)
class Distillation:
    """What students learn of a teacher. They do not share anything: two together learn what each would learn alone.

    The teacher has to be on the device of the training. It draws no drop path and no dropout, and its weights are set
    to need no gradients (autocast would else keep a copy of each in bfloat16).

    Raises ValueError where a student could not learn of the teacher: other classes, or clips of another shape.
    """

    teacher: Classifier
    students: Mapping[str, Classifier]
    temperature: float = 3.0

    def __post_init__(self) -> None:
        if not self.students:
            raise ValueError("a distillation needs at least one student")
        if self.temperature <= 0:
            raise ValueError(f"the temperature must be above 0, not {self.temperature}")
        for name, student in self.students.items():
            _check(name, student, self.teacher)
        self.teacher.requires_grad_(False)

    @property
    def models(self) -> Mapping[str, Classifier]:
        """The students, by name."""
        return self.students

    @property
    def view_flops(self) -> int:
        """Of all students, and the teacher's forward pass."""
        return distillation_flops([student.config for student in self.students.values()], self.teacher.config)

    def losses(self, batch: ClipBatch, draw: Draw, device: torch.device) -> Mapping[str, Tensor]:
        """For each student its mean :func:`divergence` from the teacher over the rows of the batch: float32 scalar."""
        frames = batch.frames.to(device, non_blocking=True)
        with torch.no_grad(), mixed_precision(device):
            teacher_BC = self.teacher(frames).float()
        own_B = draw.own_rows(len(frames), len(batch.clip_ids), device)
        found = {}
        for name, student in self.students.items():
            # The same generator for each: what is drawn for one does not depend on who learns beside it.
            drops = student.draw_drops(draw.all_rows(len(frames)), draw.generator("dropout", device)).rows(own_B)
            with mixed_precision(device):
                student_BC = student(frames, drops)
            found[name] = divergence(student_BC.float(), teacher_BC, self.temperature)
        return found


def fresh_student(config: ClassifierConfig, generator: Generator) -> Classifier:
    """A student without weights of its own: its encoder is that of a pre-training model before the first step.

    Ours, as the paper's students all start from trained weights. A classifier's own (0.02 whatever the width) is far
    too small a start for narrow models: of one run each, a student learnt the demo's motions to 48 % from this one in
    the steps in which it came to 17 % from its own.
    """
    student = Classifier(config, generator)
    untrained = Pretrainer(PretrainerConfig(config.size, config.frames, config.image), generator)
    from_pretrainer(student, untrained.state_dict(), "fresh")
    return student


def divergence(student_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """KL(teacher ‖ student) of the probabilities that logits / ``temperature`` give, mean of the rows, × temperature².

    The paper names the divergence and the temperature alone. The factor is from Hinton et al. ("Distilling the
    knowledge in a neural network", §2), and ours: without it gradients would shrink with the square of the temperature.
    """
    wanted_BC = (teacher_BC / temperature).log_softmax(-1)
    given_BC = (student_BC / temperature).log_softmax(-1)
    return functional.kl_div(given_BC, wanted_BC, reduction="batchmean", log_target=True) * temperature**2


def _check(name: str, student: Classifier, teacher: Classifier) -> None:
    own, other = student.config, teacher.config
    if own.class_names != other.class_names:
        differ = sorted(set(own.class_names) ^ set(other.class_names))
        how = f"among them {', '.join(map(repr, differ[:3]))}" if differ else "in another order"
        raise ValueError(
            f"student {name} has {len(own.class_names)} classes and the teacher {len(other.class_names)}, and they are"
            f" not the same ({how}): build the student with the teacher's class names"
        )
    if (own.frames, own.image) != (other.frames, other.image):
        raise ValueError(
            f"student {name} takes clips of {own.frames} frames of {own.image} px, the teacher of {other.frames} of"
            f" {other.image} px: both see the same view, so give the student the teacher's clips"
        )
