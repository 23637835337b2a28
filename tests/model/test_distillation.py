"""Distillation: the divergence, students that do not disturb each other, and a teacher that nothing changes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from made_up_models import random_clips, roughened
from torch import Tensor

from model import checkpoint as checkpoints
from model.classifier import Classifier, ClassifierConfig
from model.distillation import Distillation, divergence
from model.objectives import Draw
from model.optim import OptimConfig
from model.sizes import Size
from model.training import FitConfig, Progress, fit
from model.transfer import load_classifier

LARGE = Size("large", 48, 3, 3, 96, 8, decoder_dim=16, decoder_heads=2, decoder_hidden=32, decoder_depth=1)
SMALL = replace(LARGE, name="small", dim=32, depth=2, heads=2, hidden=64)
SMALLER = replace(SMALL, name="smaller", dim=16, depth=1)
NAMES = ("drift", "zoom", "turn")
CPU = torch.device("cpu")
CONFIG = FitConfig(steps=4, checkpoint_every=2, seed=11, optim=OptimConfig(3e-3, 2, layer_decay=0.75, clip_grad=0.05))


@dataclass(frozen=True)
class Cursor:
    position: int


@dataclass(frozen=True)
class Batch:
    frames: Tensor
    cursor: Cursor
    class_ids: Tensor
    clip_ids: tuple[str, ...] = tuple("abcd")
    data_wait_s: float = 0.001
    share: float = 1.0
    failed: tuple[()] = ()


def batch(position: int) -> Batch:
    """Clips without labels, already mixed: what a teacher says of them is all there is to learn."""
    frames = random_clips(4, 4, 16, seed=position).float()
    return Batch(frames.lerp(frames.flip(0), 0.3), Cursor(position + 1), torch.full((4,), -1), share=0.7)


def stream(start: int = 0) -> Iterator[Batch]:
    position = start
    while True:
        yield batch(position)
        position += 1


def classifier(size: Size, seed: int = 1, names: tuple[str, ...] = NAMES, frames: int = 4) -> Classifier:
    config = ClassifierConfig(size, frames, 16, names, drop_path=0.3, head_dropout=0.3, init_scale=1.0)
    return roughened(Classifier(config, torch.Generator().manual_seed(seed)))


def students(*names: str) -> dict[str, Classifier]:
    sizes = {"S": SMALL, "XS": SMALLER}
    return {name: classifier(sizes[name], seed=2) for name in names}


def reference(student_C: Tensor, teacher_C: Tensor, temperature: float) -> Tensor:
    """The divergence of one row, summed class by class from its definition."""
    teacher, student = ([math.e ** (value / temperature) for value in logits] for logits in (teacher_C, student_C))
    total = torch.zeros((), dtype=torch.float64)
    for p, q in zip(teacher, student, strict=True):
        wanted, given = p / sum(teacher), q / sum(student)
        total = total + wanted * (torch.log(wanted) - torch.log(given))
    return total * temperature**2


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_and_its_gradient_are_those_of_its_definition(temperature: float) -> None:
    generator = torch.Generator().manual_seed(3)
    teacher = torch.randn(5, 7, dtype=torch.float64, generator=generator) * 4
    ours = (torch.randn(5, 7, dtype=torch.float64, generator=generator) * 4).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    loss = divergence(ours, teacher, temperature)
    expected = sum(reference(theirs[i], teacher[i], temperature) for i in range(5)) / 5
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-12)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-12, rtol=1e-12)
    # Known by hand: what is left to learn is the difference of the probabilities, times the temperature.
    by_hand = temperature * ((ours / temperature).softmax(-1) - (teacher / temperature).softmax(-1)) / 5
    torch.testing.assert_close(ours.grad, by_hand.detach())
    assert divergence(teacher + 5, teacher, temperature).abs() < 1e-12


def test_the_teacher_sees_the_view_of_the_students_and_is_left_as_it_was() -> None:
    teacher, pupils = classifier(LARGE).train(), students("S", "XS")
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    shown: list[Tensor] = []
    for model in (teacher, *pupils.values()):
        model.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    draw = Draw(5, 0, 0, 1)
    losses = Distillation(teacher, pupils).losses(batch(0), draw, CPU)
    sum(losses.values(), torch.zeros(())).backward()
    assert len(shown) == 3 and all(view is shown[0] for view in shown)
    assert teacher.training and all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())

    # Students' drops are drawn, the teacher's are not: its logits are those without any.
    wanted = teacher(batch(0).frames).detach()
    student = students("S")["S"]
    drops = student.draw_drops(4, draw.generator("dropout", CPU))
    given = student(batch(0).frames, drops)
    by_row = torch.stack([reference(given[i].double(), wanted[i].double(), 3.0) for i in range(4)])
    assert losses["S"].dtype == torch.float32
    torch.testing.assert_close(losses["S"].double(), by_row.mean(), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(divergence(student(batch(0).frames), wanted, 3.0), losses["S"])


def trained(folder: Path, *names: str) -> list[Progress]:
    seen: list[Progress] = []
    objective = Distillation(classifier(LARGE), students(*names))
    fit(objective, stream(), CONFIG, folder, CPU, report=seen.append)
    return seen


def weights(folder: Path, name: str, step: int = 4) -> dict[str, Tensor]:
    return load_classifier(folder / f"step-{step:06d}" / name).state_dict()


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.usefixtures("one_rank")
def test_students_together_learn_to_the_bit_what_each_learns_alone(tmp_path: Path) -> None:
    trained(tmp_path / "both", "S", "XS")
    for name in ("S", "XS"):
        alone = trained(tmp_path / name, name)
        assert_equal(weights(tmp_path / "both", name), weights(tmp_path / name, name))
        # Something was learned, and the small bound on the gradient held each student by its own norm.
        fresh = students(name)[name].state_dict()
        assert not torch.equal(weights(tmp_path / name, name)["head.weight"], fresh["head.weight"])
        assert all(progress.grad_norm > CONFIG.optim.clip_grad for progress in alone)


@pytest.mark.usefixtures("one_rank")
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path) -> None:
    straight = trained(tmp_path / "straight", "S", "XS")
    broken: list[Progress] = []
    objective = Distillation(classifier(LARGE), students("S", "XS"))
    fit(
        objective,
        stream(),
        CONFIG,
        tmp_path / "broken",
        CPU,
        report=broken.append,
        should_stop=lambda: len(broken) == 2,
    )
    found = checkpoints.latest(tmp_path / "broken")
    assert found is not None and found.step == 3
    again = Distillation(classifier(LARGE), students("S", "XS"))
    fit(again, stream(3), CONFIG, tmp_path / "broken", CPU, resume=found, report=broken.append)
    assert [progress.loss for progress in broken] == [progress.loss for progress in straight]
    for name in ("S", "XS"):
        assert_equal(weights(tmp_path / "straight", name), weights(tmp_path / "broken", name))


def test_what_a_student_cannot_learn_of_is_refused() -> None:
    teacher = classifier(LARGE)
    for names, words in ((("drift", "zoom"), "'turn'"), (("zoom", "drift", "turn"), "in another order")):
        with pytest.raises(ValueError, match=rf"student S has {len(names)} classes and the teacher 3.*{words}"):
            Distillation(teacher, {"S": classifier(SMALL, names=names)})
    with pytest.raises(ValueError, match="student S takes clips of 8 frames of 16 px, the teacher of 4"):
        Distillation(teacher, {"S": classifier(SMALL, frames=8)})
    with pytest.raises(ValueError, match="at least one student"):
        Distillation(teacher, {})
    with pytest.raises(ValueError, match="temperature must be above 0"):
        Distillation(teacher, students("S"), temperature=0)
