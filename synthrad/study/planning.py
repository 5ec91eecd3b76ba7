"""What a study will do, worked out from the study file and the real table before anything is fitted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.documents import parse_yaml
from synthrad.errors import InputError, InputErrors
from synthrad.files import file_digest
from synthrad.fusion import count
from synthrad.fusion.controls import HOW
from synthrad.records import Manifest
from synthrad.statistics.layouts import FEWEST_SEEDS
from synthrad.study.arm_strategies import build_strategy
from synthrad.study.description import (
    LATER,
    LATER_OF_TASKS,
    PLACES,
    REFERENCE,
    Arm,
    Source,
    Study,
    Task,
    digest_of,
)

RESULTS_VERSION = 2  # raised by hand when a change of code changes results: every fit is then done again
GENERATOR_VERSION = 2  # the same, where only the training of generators changes; 2: standardised conditions
WEIGHTS = ("autoencoder", "base", "init_from")  # options of generators that take the checkpoint of one
STARTS = (*WEIGHTS, "text", "perceptual")  # keys of a config or an override that name checkpoints
CONTROLS = {"duplicate": "DuplicateReal", "augmented": "AugmentedReal"}
LONGER = f"{REFERENCE}_longer"


@dataclass(frozen=True)
class PlannedArm:
    """One arm of the plan.

    Args:
        name: unique in the study; controls are called <arm>_duplicate and <arm>_augmented.
        strategy: class name; source: where its synthetic rows come from, None for real rows only.
        role: reference, adding, replacing (synthetic only), control, or longer (the reference with twice the steps).
        like: the arm whose additions a control copies, or that is trained longer.
        controls: names of the controls that this arm is held against (shared where they coincide).
        same_as: the arm that this one equals, because it adds no row; such an arm is not fitted.
        rows_added: rows that the strategy asks for.
    """

    name: str
    strategy: str
    source: str | None
    role: str
    like: str | None = None
    controls: tuple[str, ...] = ()
    same_as: str | None = None
    rows_added: int = 0


@dataclass(frozen=True)
class Plan:
    """All arms, and per source the synthetic rows that the arms want, cell by cell."""

    arms: tuple[PlannedArm, ...]
    wanted: dict[str, Counter]

    def fitted(self) -> list[PlannedArm]:
        """Arms that are fitted."""
        return [a for a in self.arms if a.same_as is None]

    def __getitem__(self, name: str) -> PlannedArm:
        return next(a for a in self.arms if a.name == name)


def strategy_of(study: Study, planned: PlannedArm) -> Any:
    """The strategy object of a planned arm, controls included."""
    if planned.role != "control":
        name = planned.like or planned.name
        return build_strategy(study.arms[name], study.cells, f"arms.{name}")
    like = build_strategy(study.arms[planned.like], study.cells, f"arms.{planned.like}")
    args = {"like": like} | ({"how": how} if (how := _how(study, planned.source, planned.strategy)) != "strong" else {})
    return build_strategy(Arm(strategy=planned.strategy, args=args), {}, f"arms.{planned.name}")


def _how(study: Study, source: str | None, control: str) -> str:
    """How a control's real pairs are augmented: as the masks of its arm's source were moved, where a whole pair can be."""
    moved = study.sources[source].mask_transform if source else "none"
    return moved if control == "AugmentedReal" and moved in HOW else "strong"


def fuse_arm(strategy: Any, arm: PlannedArm, train: Manifest, made: Manifest | None) -> Manifest:
    """The arm's rows of its pool `made`; an error names arm and source, which a strategy does not know."""
    try:
        return strategy.fuse(train, made, np.random.default_rng(0))
    except InputErrors:
        raise
    except InputError as e:
        source = f", source {arm.source!r}" if arm.source else ""
        raise InputError(f"arms.{arm.name}{source}: {e.where}", e.found, e.expected, e.repair) from e


def make_plan(study: Study, train: Manifest) -> Plan:
    """Ask every strategy what it needs, share controls that coincide, drop arms that add nothing."""
    if LONGER in study.arms:
        raise InputError(f"arms.{LONGER}", "an arm of that name", f"another name: {REFERENCE} with twice the steps is called so",
                         "rename the arm")
    arms: list[PlannedArm] = []
    wanted: dict[str, Counter] = {name: Counter() for name in study.sources}
    shared: dict[tuple, dict[str, str]] = {}  # kind of control and needs -> source -> its control
    for name, arm in study.arms.items():
        if name == REFERENCE:
            arms.append(PlannedArm(name, arm.strategy, None, "reference"))
            continue
        strategy = build_strategy(arm, study.cells, f"arms.{name}")
        needs = strategy.needs(train)
        total = sum(needs.values())
        role = "replacing" if arm.strategy == "SyntheticOnly" else "adding"
        planned = PlannedArm(name, arm.strategy, arm.source, role, rows_added=total)
        if total == 0:
            arms.append(replace(planned, same_as=REFERENCE))
            continue
        wanted[arm.source] |= needs  # doses are nested: the largest need of each cell serves all arms
        if role == "replacing":
            arms.append(planned)
            continue
        mine: list[str] = []
        controls: list[PlannedArm] = []
        for suffix, kind in CONTROLS.items():
            known = shared.setdefault((kind, _how(study, arm.source, kind), *sorted(needs.items())), {})
            origin = next((s for s in known if s == arm.source or _fill(study, (s, arm.source), needs)), None)
            if origin is None:
                origin, known[arm.source] = arm.source, f"{name}_{suffix}"
                # a control gets the pool too: where an arm must fall back on what the pool has, its control follows it
                controls.append(PlannedArm(f"{name}_{suffix}", kind, arm.source, "control", like=name, rows_added=total))
            mine.append(known[origin])
        arms += [replace(planned, controls=tuple(mine)), *controls]
    return Plan(tuple(arms), wanted)


def _fill(study: Study, sources: tuple[str, ...], needs: Counter) -> bool:
    """Whether pools of these sources hold all that is needed, so that no arm falls back and their controls coincide.

    The pool of a generator is topped up until it does; of an imported set it is known only without a filter.
    """
    for source in (study.sources[s] for s in sources):
        if source.generator is None:
            if source.filter:
                return False
            for draw in range(source.draws):
                have = count(Manifest.read(source.manifest_of(draw)), needs)
                if any(have[c] < n for c, n in needs.items()):
                    return False
    return True


def planned_fits(study: Study, plan: Plan) -> dict[str, PlannedArm]:
    """Every fit "task/net/arm" and its arm.

    A study that may give verdicts trains the reference also for twice the steps, on the endpoint's task and net: whether
    it had converged cannot be read off the end of one curve, which a falling learning rate flattens at any length.
    """
    found = {f"{t}/{n}/{a.name}": a for a in plan.fitted() for t, task in study.tasks.items() for n in task.nets}
    if not study.mechanics and study.seeds >= FEWEST_SEEDS:
        found[f"{study.endpoint.task}/{study.endpoint.net}/{LONGER}"] = PlannedArm(
            LONGER, study.arms[REFERENCE].strategy, None, "longer", like=REFERENCE)
    return found


def identities(study: Study, plan: Plan, manifest: Manifest) -> dict[str, dict[str, str]]:
    """Identity of every generator, pool and fit: hash of what decides its result, and of nothing else.

    Returns:
        {"generator": {source: hash}, "pool": {source: hash}, "fit": {"task/net/arm": hash}}.
    """
    digest = manifest.digest
    config = {s.generator: settings_of(s.generator) for s in study.sources.values() if s.generator}
    out: dict[str, dict[str, str]] = {"generator": {}, "pool": {}, "fit": {}}
    for name in dict.fromkeys(n for s in study.sources for n in (*study.trained_before(s), s)):
        source = study.sources[name]
        size = source.size or study.size
        made = digest_of(RESULTS_VERSION, digest, source.generator and config[source.generator], source.overrides,
                         *([GENERATOR_VERSION, size, _started_from(config[source.generator], source.overrides)] if source.generator else []))
        if source.starts:
            made = digest_of(made, {k: (out["generator"][s], study.sources[s].checkpoint) for k, s in source.starts.items()})
        imported = [_text(str(Path(m) / "dataset.yaml")) for d in range(source.draws) if (m := source.manifest_of(d))]
        filtered = source.filter and settings_of(source.filter)
        out["generator"][name] = made
        out["pool"][name] = digest_of(made, imported, filtered, _plain(source), size, study.cells,
                                      *(["best"] if source.checkpoint == "best" else []), sorted(map(str, plan.wanted[name].items())))
    externals = {k: _text(str(Path(v) / "dataset.yaml")) for k, v in study.external.items()}
    for key, arm in planned_fits(study, plan).items():
        task_name, net_name, _ = key.split("/")
        task, like = study.tasks[task_name], study.arms[arm.like or arm.name].model_dump()
        spec = {k: v for k, v in _plain(task).items() if k not in ("nets", "fewest_positive")}
        if task.size not in (None, study.size):
            spec["size"] = task.size
        out["fit"][key] = digest_of(RESULTS_VERSION, digest, out["pool"].get(arm.source, ""), arm.strategy, like, arm.role,
                                    study.cells, study.size, study.budget, spec, _net(task, net_name), externals,
                                    *([how] if (how := _how(study, arm.source, arm.strategy)) != "strong" else []))
    return out


def checkpoints_named(config: Any, overrides: Sequence[str], keys: Sequence[str]) -> list[Path]:
    """Paths that the given keys of a config, or of the flags added to it, name; they need not be there."""
    return [Path(p) for p in re.findall(rf"\b(?:{'|'.join(keys)})['\"]?\s*[:=]\s*['\"]?([^'\",\s}}]+)", f"{config!r} {' '.join(overrides)}")]


def _net(task: Task, name: str) -> dict[str, Any]:
    """What a net says that decides a fit: its weights by what they hold, not by where they lie."""
    said = task.nets[name].decides()
    if said["init_args"].get("weights") is None:
        return said
    from synthrad.nets.weight_files import with_digests  # torch: only where weights are named

    return {**said, "init_args": with_digests(said["init_args"])}


def _started_from(config: Any, overrides: Sequence[str]) -> list[str]:
    """Digests of the checkpoints that a generator's training takes up: another file under the same name is another generator."""
    named = checkpoints_named(config, overrides, STARTS)
    files = [f for path in named for f in (sorted(x for x in path.rglob("*") if x.is_file()) if path.is_dir() else [path])]
    return [file_digest(f) for f in files if f.is_file()]


def _plain(part: Source | Task) -> dict[str, Any]:
    """What a part of a study says, without the keys that `identities` takes account of itself."""
    said = {k: v for k, v in part.model_dump().items() if k not in ("size", "checkpoint", "starts", *PLACES)}
    later = {**LATER, **LATER_OF_TASKS, "mask_transform": "none"}
    return {k: v for k, v in said.items() if k not in later or v != later[k]}


def settings_of(path: str) -> Any:
    """What a config says, without its comments: a better comment must not cost a day of training."""
    return parse_yaml(_text(path), path, "a config")


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as e:
        raise InputError(path, e.strerror or str(e), "a readable file", "correct the path in the study file") from e


def steps_of(study: Study, task: Any, arm: PlannedArm, real_rows: int) -> int:
    """Optimizer steps of a fit: T, 2 T for role `longer`, or T (N + S) / N under `budget: real_exposure` (arm and controls alike)."""
    if arm.role == "longer":
        return 2 * task.steps
    if study.budget == "steps" or arm.role in ("reference", "replacing"):
        return task.steps
    return round(task.steps * (real_rows + arm.rows_added) / real_rows)
