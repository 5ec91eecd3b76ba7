"""One seed of one arm, task and net: builds what the study file describes and fits and tests it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthrad.class_paths import arguments_of
from synthrad.errors import InputError, near
from synthrad.study.description import Study, Task
from synthrad.study.planning import PlannedArm


def build_net(task: Task, name: str, channels: int, outputs: int, classes: Sequence[str] = ()) -> Any:
    """The network of a study's task; counts of channels and outputs, and the names of classes, come from the data."""
    from synthrad import nets

    spec, where = task.nets[name], f"nets.{name}"
    class_name = spec.class_path.removeprefix("synthrad.nets.")
    if class_name not in nets.__all__:
        raise InputError(f"{where}.class_path", repr(spec.class_path), f"one of {', '.join(nets.__all__)}", near(class_name, nets.__all__))
    kind = getattr(nets, class_name)
    counts = {"in_channels": channels, "out_channels": outputs, "num_classes": outputs, "classes": list(classes)}
    takes = arguments_of(kind)
    if told := sorted(set(spec.init_args) & set(counts)):
        raise InputError(f"{where}.init_args", str(told), "no such key: these numbers come from the data", "leave it out")
    known = [k for k in takes if k not in counts]
    if wrong := sorted(set(spec.init_args) - set(known)):
        raise InputError(f"{where}.init_args", f"unknown keys {wrong}", f"some of {known}")
    return kind(**spec.init_args, **{k: v for k, v in counts.items() if k in takes})


def build_task(task: Task, name: str, data: Any) -> Any:
    """The LightningModule of a task, for the layers or classes that the study names (default: all)."""
    from synthrad.tasks import ClassificationTask, SegmentationTask

    if task.kind == "segmentation":
        layers = {k: list(v) for k, v in data.layers.items() if task.layers is None or k in task.layers}
        if unknown := set(task.layers or ()) - set(data.layers):
            raise InputError("tasks.layers", f"{sorted(unknown)}", f"some of the layers {sorted(data.layers)}")
        net = build_net(task, name, data.num_channels, sum(1 + len(v) for v in layers.values()))
        return SegmentationTask(net, layers=layers, **_rates(task, name))
    if unknown := set(task.classes or ()) - set(data.classes):
        raise InputError("tasks.classes", f"{sorted(unknown)}", f"some of the classes {sorted(data.classes)}")
    classes = list(task.classes or data.classes)
    return ClassificationTask(build_net(task, name, data.num_channels, len(classes), classes), classes=classes, loss=task.loss, loss_options=dict(task.loss_options),
                              **_rates(task, name))


def _rates(task: Task, name: str) -> dict[str, Any]:
    """Learning rates of a net: its own, else its task's."""
    net = task.nets[name]
    return {"lr": net.learning_rate or task.learning_rate, "layer_decay": net.layer_decay or task.layer_decay,
            "head_lr": net.head_learning_rate or task.head_learning_rate, "decay_all": task.decay_all}


def fit_seed(study: Study, task_name: str, net_name: str, arm: PlannedArm, strategy: Any, pool: str | None, steps: int,
             seed: int, folder: Path, identity: str) -> dict[str, Any]:
    """Fit and test one seed; a finished one of the same identity is not done again.

    Returns:
        fit.json with task, net, arm and seed added.
    """
    from lightning.pytorch import seed_everything

    from synthrad.datamodules.fusion import FusionDataModule
    from synthrad.study.fitting import finished, fit_and_test

    names = {"task": task_name, "net": net_name, "arm": arm.name}
    facts = finished(folder, identity)
    if facts is None:
        task = study.tasks[task_name]
        data = FusionDataModule(study.manifest, synthetic=pool, fusion=strategy, size=task.size or study.size,
                                judged_size=study.size, batch_size=task.batch_size, seed=seed, steps=steps, external=study.external,
                                views=task.views)
        seed_everything(seed, workers=True, verbose=False)  # arms of one seed start from the same weights
        module = build_task(task, net_name, data)
        facts = fit_and_test(module, data, folder, steps=steps, val_every=max(1, steps // task.validations), seed=seed,
                             names=names, identity=identity, precision=task.precision,
                             keep_checkpoint=arm.role == "reference")  # crossed.answer asks it about synthetic images
    return {**facts, **names, "seed": seed}
