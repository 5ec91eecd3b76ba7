"""Study: what a study file says, and what its parts must fulfil (pydantic)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from synthrad.data.mask_moves import check_transform
from synthrad.errors import InputError, near
from synthrad.metrics import classification, segmentation
from synthrad.metrics.classification import FEWEST_POSITIVE

NAME = r"^[a-z0-9][a-z0-9_]*$"
REFERENCE = "real_only"
METRICS = {"segmentation": segmentation.METRICS, "classification": classification.METRICS}  # of an endpoint, by kind of task
PLACES = ("nodes", "tasks_per_node")  # keys of sources that decide where it is trained and nothing else: never hashed
LATER = {"starts": {}, "prompts": None, "unnamed": "unknown"}  # keys of sources that came later: hashed only where they say something
LATER_OF_TASKS: dict[str, Any] = {"loss": "cross_entropy", "loss_options": {}, "layer_decay": None, "head_learning_rate": None, "decay_all": True, "views": None}  # the same of tasks
LATER_OF_STUDY = ("seen", "allow_copies")  # keys of the study that came later: hashed only where they say something
RATES_OF_NETS = ("learning_rate", "layer_decay", "head_learning_rate")
Side = Annotated[int, Field(ge=16)]  # pixels: no net works on less


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
        checkpoint: of the generator: last, or best: the one that KeepBestKID in its config keeps.
        manifest: an imported synthetic manifest (or one a draw, if a list).
        prompts: what the generator is asked for: null = the labels and attributes of real rows; multi = the findings that
            such a row has, single = one of them (and its attributes); none = nothing. Works for all that follow labels or prompts.
        unnamed: with single and multi, the labels of synthetic rows that were not named: unknown to the loss, or absent.
        truncation, mask_transform: as `synthrad sample` takes them; two sources of one training share its generator.
        margin: share drawn above the plan (0.1 = 10 % more).
        score: judges, needed by mask-quality filters; filter: a filter config, None = keep all.
        draws: independent synthetic sets; seed s of a fit uses draw s modulo draws.
        size: of the generator's images and of the judges; None = the study's.
        starts: option of the generator's fit -> the source whose checkpoint it takes, such as `model.autoencoder: vae`.
            That source is trained first, and drawn from only if an arm asks for it.
        nodes, tasks_per_node: of the generator's fit on a cluster (`--profile`), a process a task; None = the profile's. They decide
            where it runs, not what it is: the batch is divided among the processes. Without a profile they say nothing.
    """

    generator: str | None = None
    overrides: tuple[str, ...] = ()
    checkpoint: Literal["last", "best"] = "last"
    manifest: str | tuple[str, ...] | None = None
    truncation: float = Field(1.0, gt=0, le=1)
    mask_transform: str = "none"
    prompts: Literal["none", "single", "multi"] | None = None
    unnamed: Literal["unknown", "absent"] = "unknown"
    margin: float = Field(0.1, ge=0)
    draws: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)
    score: Judges | None = None
    filter: str | None = None
    size: tuple[Side, Side] | None = None
    starts: dict[str, str] = Field(default_factory=dict)
    nodes: int | None = Field(None, ge=1)
    tasks_per_node: int | None = Field(None, ge=1)

    @field_validator("starts")
    @classmethod
    def _are_options(cls, starts: dict[str, str]) -> dict[str, str]:
        if wrong := [option for option in starts if not option.startswith("model.")]:
            raise ValueError(f"found {wrong[0]!r}, expected an option of the generator's fit that takes a checkpoint, such as model.autoencoder")
        return starts

    @field_validator("mask_transform")
    @classmethod
    def _known_move(cls, transform: str) -> str:
        try:
            check_transform(transform, None, "mask_transform")
        except InputError as e:
            raise ValueError(f"found {e.found}, expected {e.expected}{f': {e.repair}' if e.repair else ''}") from e
        return transform

    @model_validator(mode="after")
    def _one_origin(self) -> Source:
        if self.manifest is not None and self.checkpoint != "last":
            raise ValueError("`checkpoint` is for a `generator`: an imported set has none")
        if self.manifest is not None and self.prompts:
            raise ValueError("`prompts` is for a `generator`: an imported set is drawn already")
        if self.unnamed != "unknown" and self.prompts not in ("single", "multi"):
            raise ValueError("`unnamed` says what becomes of labels that `prompts: single` or `multi` leave out; add one, or leave it out")
        if self.manifest is not None and (self.nodes or self.tasks_per_node):
            raise ValueError("`nodes` and `tasks_per_node` are for a `generator`: an imported set is trained nowhere")
        if self.manifest is not None and self.starts:
            raise ValueError("`starts` is for a `generator`: an imported set is trained nowhere")
        if self.manifest is not None and self.mask_transform != "none":
            raise ValueError("`mask_transform` is for a `generator` that draws from masks: an imported set is drawn already")
        if self.manifest is not None and self.size is not None and self.score is None:
            raise ValueError("`size` is for a `generator` or its judges (`score`): an imported set has the size of its images")
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
    """A network: a class of synthrad.nets and its arguments (channel and class counts are filled in).

    Args:
        pretrained_on: ids of the datasets that its weights were trained on, [] for no medical image; None = as is known of published weights.
            A net that saw the test set gets no verdict. It says what is known and changes no fit.
        learning_rate, layer_decay, head_learning_rate: of this net; None = the task's. A probe of a frozen net learns at another rate than a whole one.
    """

    class_path: str
    init_args: dict[str, Any] = Field(default_factory=dict)
    pretrained_on: tuple[str, ...] | None = None
    learning_rate: float | None = Field(None, gt=0)
    layer_decay: float | None = Field(None, gt=0, le=1)
    head_learning_rate: float | None = Field(None, gt=0)

    def rates(self) -> dict[str, float]:
        """The rates that the net says."""
        return {k: v for k in RATES_OF_NETS if (v := getattr(self, k)) is not None}

    def decides(self) -> dict[str, Any]:
        """What the net says that decides a fit; keys that came later only where they say something."""
        return {"class_path": self.class_path, "init_args": self.init_args, **self.rates()}

    def said(self) -> dict[str, Any]:
        """All that the net says; keys that came later only where they say something."""
        return {**self.decides(), **({} if self.pretrained_on is None else {"pretrained_on": self.pretrained_on})}


class Task(Part):
    """A downstream task: what is learned, by which nets, for how many steps.

    Args:
        fewest_positive: test subjects with, and without, a finding that a class needs for a classification metric; a class
            with fewer is trained on and reported undefined.
        precision: as Lightning's Trainer takes it; every arm of the task alike. auto: what pays on the machine that runs the study, settled when it begins, see
            `synthrad.study.settling`.
        size: of what the nets see; None = the study's. Masks are judged at the study's size whatever this is, so that tasks
            of several sizes can be compared.
        loss, loss_options: of a classification, as its task takes them (`synthrad.tasks.ClassificationTask`): cross_entropy, focal, asymmetric,
            class_balanced or logit_adjusted: what competes with balancing the training rows.
        views: of a training image, as the data of `synthrad fit` take it: null = a fresh light augmentation at every draw, 0 = none, k = k fixed ones. With 0 or
            k what a frozen net (`tuning: frozen`) gives for an image is computed once for all arms and seeds.
        layer_decay, head_learning_rate, decay_all: as the tasks of `synthrad fit` take them (head_lr there); None = one rate for all layers.
    """

    kind: Literal["segmentation", "classification"]
    layers: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    nets: dict[str, Net]
    steps: int = Field(ge=1)
    batch_size: int = Field(16, ge=1)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    learning_rate: float = Field(1e-3, gt=0)
    validations: int = Field(10, ge=1)
    fewest_positive: int = Field(FEWEST_POSITIVE, ge=1)
    size: tuple[Side, Side] | None = None
    loss: Literal["cross_entropy", "focal", "asymmetric", "class_balanced", "logit_adjusted"] = "cross_entropy"
    loss_options: dict[str, float] = Field(default_factory=dict)
    layer_decay: float | None = Field(None, gt=0, le=1)
    head_learning_rate: float | None = Field(None, gt=0)
    decay_all: bool = True
    views: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _of_its_kind(self) -> Task:
        if self.kind == "segmentation" and self.loss != "cross_entropy":
            raise ValueError(f"`loss: {self.loss}` is of a classification: a segmentation learns by cross-entropy and Dice")
        return self


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
    """One study: data, sources, arms, tasks, seeds, endpoint.

    Args:
        size: (height, width) of sources and tasks that name none, and the grid of pixels on which masks are judged.
        seen: manifests at hand of other real sets that a generator, an imported set's maker or a net's weights learned from: their images are compared
            with the held-out ones by pixels. name -> folder.
        allow_copies: part of the study, such as `external.site` or `sources.made` -> why what looks like a copy of a held-out image is none, or does not matter.
            It stands in the report.
    """

    name: str = Field(pattern=NAME)
    title: str = ""
    mechanics: bool = False
    manifest: str
    external: dict[str, str] = Field(default_factory=dict)
    seen: dict[str, str] = Field(default_factory=dict)
    allow_copies: dict[str, Annotated[str, Field(pattern=r"\S")]] = Field(default_factory=dict)
    size: tuple[Side, Side]
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
        for kind in ("sources", "arms", "tasks", "external", "seen"):
            for name in getattr(self, kind):
                if not re.fullmatch(NAME, name):
                    raise ValueError(f"{kind}: {name!r} is used as a folder name: lower case, digits and _ only")
        for name, arm in self.arms.items():
            if arm.strategy != "RealOnly" and arm.source not in self.sources:
                raise ValueError(f"arms.{name}.source: {arm.source!r} is none of the sources {sorted(self.sources)}")
        for name in self.sources:
            self.trained_before(name)
        for kind, parts in (("sources", self.sources), ("tasks", self.tasks)):
            for name, part in parts.items():
                if part.size is not None and part.size[0] * self.size[1] != part.size[1] * self.size[0]:
                    raise ValueError(f"{kind}.{name}.size: {list(part.size)} has another aspect than size {list(self.size)} of the "
                                     "study: masks could not be compared")
        end = self.endpoint
        if end.task not in self.tasks or end.net not in self.tasks[end.task].nets:
            known = [f"{t}/{n}" for t, task in self.tasks.items() for n in task.nets]
            raise ValueError(f"endpoint: task {end.task!r} with net {end.net!r} is none of {known}")
        task = self.tasks[end.task]
        if end.metric not in METRICS[task.kind]:
            raise ValueError(f"endpoint.metric: {end.metric!r} is none of {', '.join(METRICS[task.kind])}, the metrics of the "
                             f"{task.kind} task {end.task!r}{meant(end.metric, METRICS[task.kind])}")
        return self

    def said(self) -> dict[str, Any]:
        """All that the study says, as plain data; keys that came later only where they say something: studies from before keep their hash."""
        data = {k: v for k, v in self.model_dump().items() if v or k not in LATER_OF_STUDY}
        for source in data["sources"].values():
            for key, default in LATER.items():
                if source[key] == default:
                    del source[key]
            for key in PLACES:
                del source[key]
        for name, task in data["tasks"].items():
            task["nets"] = {n: net.said() for n, net in self.tasks[name].nets.items()}
            for key in [k for k, default in LATER_OF_TASKS.items() if task[k] == default]:
                del task[key]
        return data

    def trained_before(self, source: str, after: tuple[str, ...] = ()) -> list[str]:
        """The sources whose checkpoints a source starts from, and theirs, in an order in which they can be trained.

        Raises:
            ValueError: one is no source with a `generator`, or starts from itself.
        """
        found: list[str] = []
        for option, other in self.sources[source].starts.items():
            if other not in self.sources or self.sources[other].generator is None:
                known = sorted(n for n, s in self.sources.items() if s.generator and n != source)
                raise ValueError(f"sources.{source}.starts.{option}: {other!r} is none of the sources with a `generator` {known}")
            if other in (source, *after):
                raise ValueError(f"sources.{source}.starts.{option}: {other!r} starts from {source!r} itself")
            found += [*self.trained_before(other, (*after, source)), other]
        return list(dict.fromkeys(found))


def meant(word: str, known: Iterable[str]) -> str:
    """What a word of a study file may stand for, to end a message with."""
    said = near(word, known)
    return f"; {said}" if said else ""


def digest_of(*parts: Any) -> str:
    """SHA-256 (16 hex digits) of plain data: the identity of a job."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
