"""Study: what a study file says, checked as a whole before anything runs (pydantic)."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from synthrad.errors import InputError, InputErrors
from synthrad.metrics.classification import FEWEST_POSITIVE

NAME = r"^[a-z0-9][a-z0-9_]*$"
REFERENCE = "real_only"


class Part(BaseModel):
    """A part of a study file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Judges(Part):
    """Cross-fitted judges of mask quality (`synthrad score`)."""

    folds: int = Field(3, ge=2)
    steps: int = Field(400, ge=1)
    arch: str = "Unet"
    encoder: str = "resnet18"
    layer: str | None = None


class Source(Part):
    """Where synthetic images come from: a generator to train, or a manifest made elsewhere.

    Args:
        generator: config of a generator fit; overrides: flags added to it. None for an imported set.
        manifest: an imported synthetic manifest (or one a draw, if a list).
        conditions: plan = what the arms need; real = follow the real cells.
        margin: share drawn above the plan (0.1 = 10 % more).
        score: judges, needed by mask-quality filters; filter: a filter config, None = keep all.
        draws: independent synthetic sets; seed s of a fit uses draw s modulo draws.
    """

    generator: str | None = None
    overrides: tuple[str, ...] = ()
    manifest: str | tuple[str, ...] | None = None
    truncation: float = Field(1.0, gt=0, le=1)
    margin: float = Field(0.1, ge=0)
    draws: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)
    score: Judges | None = None
    filter: str | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Source:
        if (self.generator is None) == (self.manifest is None):
            raise ValueError("give exactly one of `generator` (a config to fit) and `manifest` (a set made elsewhere)")
        if isinstance(self.manifest, tuple) and len(self.manifest) != self.draws:
            raise ValueError(f"`manifest` lists {len(self.manifest)} sets for `draws: {self.draws}`")
        return self

    def manifest_of(self, draw: int) -> str | None:
        """The imported set of one draw."""
        return self.manifest[draw] if isinstance(self.manifest, tuple) else self.manifest


class Arm(Part):
    """One fusion arm: a strategy's class name, its arguments, and the source it draws from."""

    strategy: str
    args: dict[str, Any] = Field(default_factory=dict)
    source: str | None = None


class Net(Part):
    """A network: a class of synthrad.nets and its arguments (channel and class counts are filled in)."""

    class_path: str
    init_args: dict[str, Any] = Field(default_factory=dict)


class Task(Part):
    """A downstream task: what is learned, by which nets, for how many steps.

    Args:
        fewest_positive: test subjects with, and without, a finding that a class needs for a classification metric; a class
            with fewer is trained on and reported undefined.
        precision: as Lightning's Trainer takes it; every arm of the task alike.
    """

    kind: Literal["segmentation", "classification"]
    layers: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    nets: dict[str, Net]
    steps: int = Field(ge=1)
    batch_size: int = Field(16, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    learning_rate: float = Field(1e-3, gt=0)
    validations: int = Field(10, ge=1)
    fewest_positive: int = Field(FEWEST_POSITIVE, ge=1)


class EndpointSpec(Part):
    """The one primary endpoint, declared before the first fit."""

    task: str
    net: str
    metric: str
    classes: tuple[str, ...] | None = None
    alpha: float = Field(0.05, gt=0, lt=0.5)
    smallest_relevant: float = Field(0.02, gt=0)
    margin: float = Field(0.02, gt=0)


class Study(Part):
    """One study: data, sources, arms, tasks, seeds, endpoint."""

    name: str = Field(pattern=NAME)
    title: str = ""
    mechanics: bool = False
    manifest: str
    external: dict[str, str] = Field(default_factory=dict)
    size: tuple[int, int]
    sources: dict[str, Source] = Field(default_factory=dict)
    arms: dict[str, Arm]
    cells: dict[str, Any] = Field(default_factory=dict)
    tasks: dict[str, Task]
    seeds: int = Field(ge=1)
    budget: Literal["steps", "real_exposure"] = "steps"
    endpoint: EndpointSpec

    @field_validator("arms")
    @classmethod
    def _has_reference(cls, arms: dict[str, Arm]) -> dict[str, Arm]:
        if arms.get(REFERENCE) is None or arms[REFERENCE].strategy != "RealOnly":
            raise ValueError(f"every study has the arm `{REFERENCE}: {{strategy: RealOnly}}`")
        return arms

    @model_validator(mode="after")
    def _parts_fit(self) -> Study:
        import re

        for kind in ("sources", "arms", "tasks", "external"):
            for name in getattr(self, kind):
                if not re.match(NAME, name):
                    raise ValueError(f"{kind}: {name!r} is used as a folder name: lower case, digits and _ only")
        for name, arm in self.arms.items():
            if arm.strategy != "RealOnly" and arm.source not in self.sources:
                raise ValueError(f"arms.{name}.source: {arm.source!r} is none of the sources {sorted(self.sources)}")
        end = self.endpoint
        if end.task not in self.tasks or end.net not in self.tasks[end.task].nets:
            known = [f"{t}/{n}" for t, task in self.tasks.items() for n in task.nets]
            raise ValueError(f"endpoint: task {end.task!r} with net {end.net!r} is none of {known}")
        return self


def load_study(path: Path | str) -> Study:
    """Read and check a study file.

    Raises:
        InputErrors: all faults at once, each with its key.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise InputError(str(path), "no such file", "a study file", f"there are: {', '.join(near)}" if near else "")
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as e:
        raise InputError(str(path), f"text that is not YAML ({e})", "a study file") from e
    if not isinstance(data, dict):
        raise InputError(str(path), f"a {type(data).__name__}", "a mapping with the keys of Study")
    try:
        study = Study.model_validate(data)
    except ValidationError as e:
        faults = []
        for error in e.errors():
            key = ".".join(map(str, error["loc"])) or "study"
            found = "" if error["type"] in ("missing", "value_error") else f", found {error['input']!r}"
            faults.append(f"{key}: {error['msg']}{found}{_near_key(error)}")
        raise InputErrors(str(path), faults) from e
    for name, arm in study.arms.items():
        build_strategy(arm, study.cells, f"{path}: arms.{name}")
    return study


def _near_key(error: Any) -> str:
    if error["type"] != "extra_forbidden":
        return ""
    fields = {f for part in Part.__subclasses__() for f in part.model_fields}
    near = difflib.get_close_matches(str(error["loc"][-1]), fields, 1)
    return f"; did you mean `{near[0]}`?" if near else ""


def build_strategy(arm: Arm, cells: dict[str, Any], where: str) -> Any:
    """The strategy object of an arm; `cells` (study wide) fills its `cells` argument where it has one."""
    from synthrad import fusion

    names = sorted(n for n in fusion.__all__ if isinstance(getattr(fusion, n), type)
                   and issubclass(getattr(fusion, n), fusion.FusionStrategy) and n != "FusionStrategy")
    if arm.strategy not in names:
        near = difflib.get_close_matches(arm.strategy, names, 1)
        raise InputError(f"{where}.strategy", repr(arm.strategy), f"one of {', '.join(names)}",
                         f"did you mean {near[0]}?" if near else "")
    kind = getattr(fusion, arm.strategy)
    known = list(inspect.signature(kind.__init__).parameters)[1:]
    for key in arm.args:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise InputError(f"{where}.args.{key}", "an unknown key", f"one of {known}",
                             f"did you mean `{near[0]}`?" if near else "")
    args = dict(arm.args)
    if "cells" in known and cells and "cells" not in args:
        args["cells"] = fusion.Cells(**cells)
    try:
        return kind(**args)
    except TypeError as e:
        raise InputError(where, str(e), f"the arguments of {arm.strategy}") from e


def digest_of(*parts: Any) -> str:
    """SHA-256 (16 hex digits) of plain data: the identity of a job."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
