"""What a run's log says of memory: of each model that is trained, and of a teacher."""

from dataclasses import replace

from assets.derived_stages import DistillSettings, Student
from assets.run_memory import memory_words, planned_memory
from assets.stages import PretrainSettings, SupervisedSettings
from model.classifier import Classifier, ClassifierConfig
from model.distillation import Distillation
from model.memory_plan import in_words, memory_plan, together
from model.objectives import Pretraining
from model.pretrainer import Pretrainer
from model.sizes import SIZES
from pipelines.presets import smoke

PRETRAINED, FINETUNED = smoke().pretrained, smoke().finetuned
assert isinstance(PRETRAINED, PretrainSettings) and isinstance(FINETUNED, SupervisedSettings)


def test_a_plan_is_made_of_the_settings() -> None:
    settings = PRETRAINED
    fit = replace(settings.fit, accumulate=2, checkpointing=True, ema_decay=0.99)
    resolved = replace(settings, fit=fit, loader=replace(settings.loader, clips_per_batch=3, views=2))
    planned = planned_memory(resolved, settings.model, devices=4, on_gpu=True)
    assert planned == memory_plan(settings.model, 6, 4, accumulate=2, checkpointing=True, averaged=True)
    mixed = replace(FINETUNED, loader=replace(FINETUNED.loader, mixup=0.8))
    classifier = ClassifierConfig(SIZES["tiny"], 8, 48, ("a", "b"))
    rows = mixed.loader.clips_per_batch * mixed.loader.views
    assert planned_memory(mixed, classifier, 1, on_gpu=False) == memory_plan(classifier, rows, mixed=True, on_gpu=False)


def test_the_log_has_a_line_for_all_models() -> None:
    settings = PRETRAINED
    words = memory_words(settings, Pretraining(Pretrainer(settings.model)), 2, on_gpu=False)
    assert words == planned_memory(settings, settings.model, 2, on_gpu=False).words()
    assert words.startswith("memory of each process, 1 of 2: ") and "activations" in words

    teacher, student = (Classifier(ClassifierConfig(SIZES["tiny"], 8, 48, tuple("abc"))) for _ in range(2))
    distilled = DistillSettings((Student("tiny"),), FINETUNED.loader, FINETUNED.fit)
    words = memory_words(distilled, Distillation(teacher, {"tiny": student}), 1, on_gpu=True)
    assert words.startswith("tiny: memory of each GPU, 1 of 1: ") and words.count("fits") == 1
    plan = planned_memory(distilled, student.config, 1, on_gpu=True)
    total = in_words(plan.total + 4 * sum(weight.numel() for weight in teacher.parameters()))
    assert words.endswith(f"; with the teacher, whole on each (1 MiB), all together {total}; fits GPUs of 16 GB")


def test_students_activations_add_up() -> None:
    """As a step has them: all forward, then each backward in turn."""
    small, large = (memory_plan(ClassifierConfig(SIZES[size], 16, 224, ("a",)), rows=32, devices=8) for size in "SB")
    lasting = sum(plan.weights + plan.optimizer for plan in (small, large))
    assert together([small, large]) == lasting + small.frames + small.step + large.activations
    assert together([small, large]) > 20 * 2**30 > large.total
    assert together([large]) == large.total
