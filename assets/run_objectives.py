"""What a run trains: the objective of its stage, with models that are fresh or filled from another stage's weights."""

from pathlib import Path

import torch

from assets.derived_stages import DistillSettings
from assets.run_clips import Say
from assets.stages import PretrainSettings, RunSpec, SupervisedSettings, TrainingSettings
from model.classifier import Classifier, ClassifierConfig
from model.distillation import Distillation, fresh_student
from model.objectives import Classification, Objective, Pretraining
from model.parallel import blocks, compile_block
from model.pretrainer import Pretrainer
from model.sizes import SIZES
from model.transfer import load_classifier, transfer
from model.weights import read_config
from warehouse.store import Store


def objective_of(
    spec: RunSpec, settings: TrainingSettings, store: Store, device: torch.device, say: Say
) -> Objective:
    """The objective of a training run on ``device``; says where weights come from.

    Raises:
        ValueError: the run has no parent and needs one, or its teacher's classes are not those of the snapshot.
    """
    if isinstance(settings, PretrainSettings):
        return _pretraining(settings)
    if isinstance(settings, DistillSettings):
        return _distillation(spec, settings, store, device, say)
    return _classification(spec, settings, store, say)


def _pretraining(settings: PretrainSettings) -> Pretraining:
    return Pretraining(Pretrainer(settings.model, torch.Generator().manual_seed(settings.fit.seed)))


def _classification(spec: RunSpec, settings: SupervisedSettings, store: Store, say: Say) -> Classification:
    """A classifier for the snapshot's classes, filled from the parent's weights."""
    if spec.parent is None:
        raise ValueError(f"{spec.run_id}: a supervised stage starts from the checkpoint of another stage")
    parent = store.root / spec.parent
    config = ClassifierConfig(
        size=read_config(parent)[1].size,
        frames=settings.loader.frames,
        image=settings.loader.size,
        class_names=_classes(spec, store),
        drop_path=settings.drop_path,
        head_dropout=settings.head_dropout,
    )
    model = Classifier(config, torch.Generator().manual_seed(settings.fit.seed))
    say(f"weights: {transfer(model, parent)}")
    return Classification(model, settings.label_smoothing)


def _distillation(
    spec: RunSpec, settings: DistillSettings, store: Store, device: torch.device, say: Say
) -> Distillation:
    """Students beside their teacher, which every rank has whole."""
    if spec.parent is None:
        raise ValueError(f"{spec.run_id}: a distillation needs the checkpoint of a teacher")
    path, classes = store.root / spec.parent, _classes(spec, store)
    teacher = load_classifier(path)
    if teacher.config.class_names != classes:
        raise ValueError(
            f"the teacher {path} knows {len(teacher.config.class_names)} classes, and snapshot {spec.snapshot_id} has"
            f" {len(classes)} others, or in another order: a student learns the teacher's. Give the collection a"
            " taxonomy whose `classes` are the teacher's, or another teacher"
        )
    say(f"teacher: {path}, size {teacher.config.size.name}")
    if settings.fit.compile:  # the students' blocks are compiled by the training loop
        for block in blocks(teacher):
            compile_block(block)
    students = {}
    for student in settings.students:
        config = ClassifierConfig(
            size=SIZES[student.size],
            frames=settings.loader.frames,
            image=settings.loader.size,
            class_names=classes,
            drop_path=settings.drop_path,
        )
        model = students[student.size] = fresh_student(config, torch.Generator().manual_seed(settings.fit.seed))
        start = "fresh" if student.weights is None else str(transfer(model, Path(student.weights)))
        say(f"student {student.size}: {start}")
    return Distillation(teacher.to(device), students, settings.temperature)


def _classes(spec: RunSpec, store: Store) -> tuple[str, ...]:
    return tuple(store.rows("snapshots", spec.snapshot_id)[0]["classes"])
