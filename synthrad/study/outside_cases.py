"""Predictions of a net that was trained elsewhere, scored on the study's test images as our own nets are, for the same report.

They lie in the run folder under outside/<task>/<net>/<arm>/seed<k>/: cases.parquet, whose layout is that of our fits, and outside.json. The net is called
`NAME (outside)` there, so that every table tells it apart. No verdict is about such a net: the endpoint names one of the study's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synthrad.cases import read_cases, write_cases
from synthrad.data.cache import UNKNOWN as NO_MASK
from synthrad.data.images import fit, read_mask
from synthrad.errors import InputError, InputErrors, near
from synthrad.files import read_facts, write_durably
from synthrad.locking import locked
from synthrad.records import Manifest
from synthrad.study.description import NAME, Study
from synthrad.study.outside_layouts import OutsideArm, ids, row_identities
from synthrad.study.planning import Plan
from synthrad.study.standing import IMPORTS

if TYPE_CHECKING:
    from synthrad.datamodules.fusion import FusionDataModule

FOLDER, FACTS, MARK = "outside", "outside.json", " (outside)"
UNKNOWN = ("steps", "best_step", "seconds", "parameters", "trained", "flops", "memory_bytes")  # of fit.json: what nobody tells of such a net
SHOWN = 3  # names in a message


def import_cases(folder: Path, rows: OutsideArm, manifest: Manifest, plan: Plan, predictions: Path, net: str, note: str = "", again: bool = False) -> list[str]:
    """Score predictions and keep their cases in the run folder; returns what to say of it.

    Args:
        folder: run folder. rows: arm, task and seed that the net learned from. predictions: a folder of label pictures CASE.png (of a task of several layers
            one a layer), or a table of probabilities, columns case and one a class. net: what the report calls it. note: how it was trained, for the report.
        again: replace an earlier import of the same net, arm and seed; the report then says how often that was done.

    Raises:
        InputError: predictions that lack a test case, hold another one, or one of another size or with another label.
    """
    task = rows.task
    if not re.fullmatch(NAME, net):
        raise InputError("--net", repr(net), "lower case letters, digits and _ only: it is a folder's name")
    if net in task.nets:
        raise InputError("--net", repr(net), f"another name: task {rows.task_name!r} has a net of that name, which the study trains itself")
    home = folder / FOLDER / rows.task_name / net / rows.arm.name / f"seed{rows.seed}"
    data = rows.data()
    data.setup("test")
    table, said = (_drawn if task.kind == "segmentation" else _answered)(rows, data, predictions, manifest, plan)
    with locked(home / ".lock", f"import of {net}"):
        imports = 1 + read_facts(home / FACTS).get("imports", 0)
        if imports > 1 and not again:
            raise InputError(str(home), f"cases of {net!r} for this arm and seed", "none yet",
                             "--again replaces them; the report will say that the test was looked at more than once")
        (home / FACTS).unlink(missing_ok=True)  # it vouches for the cases
        write_cases(home / "cases.parquet", table.assign(task=rows.task_name, net=net + MARK, arm=rows.arm.name, seed=rows.seed))
        write_durably(home / FACTS, json.dumps({"identity": rows.identity, "note": note, "imports": imports}, indent=1).encode())
    images = table.groupby("external")["image"].nunique()
    tested = ", ".join(f"{n} {name or 'own'}" for name, n in images.items())
    return [f"{net}{MARK}, arm {rows.arm.name}, task {rows.task_name}, seed {rows.seed}: scored on {tested} test images", *dict.fromkeys(said),
            f"  {home / 'cases.parquet'}"]


Scored = tuple[pd.DataFrame, list[str]]  # rows of the cases table, and what to say


def _drawn(rows: OutsideArm, data: FusionDataModule, predictions: Path, manifest: Manifest, plan: Plan) -> Scored:
    """Rows of label pictures."""
    from synthrad.tasks import training

    found, said, layers = training.CaseRows(), [], rows.layers(manifest)
    if not predictions.is_dir():
        raise InputError(str(predictions), "a file" if predictions.exists() else "no such folder", "a folder of label pictures, CASE.png")
    homes = {layer: predictions / layer if len(layers) > 1 else predictions for layer in layers}
    sets: set[tuple[str, ...]] = set()
    for layer, home in homes.items():
        if not home.is_dir():
            raise InputError(str(home), "no such folder", f"one a layer of task {rows.task_name!r}: {', '.join(layers)}",
                             "put the label pictures of each layer into a folder of its name")
        there = {p.stem for p in home.glob("*.png")}
        tested, more = _checked_names(rows, data, there, str(home), "label picture", manifest, plan)
        said += more
        sets.add(tuple(name for name, *_ in tested))
        if len(sets) > 1:
            raise InputError(str(home), f"cases of {' and '.join(t or 'the own test set' for t in min(sets, key=len))} alone", "those of the other layers' folders",
                             "predict an external set for every layer, or for none")
        for external, held, cases, names in tested:
            place = list(data.layers).index(layer)
            for i, fact in enumerate(training.facts_of(held, np.arange(len(held)), external)):
                drawn = read_drawn(home / f"{names[i]}.png", rows.size, layers[layer])
                reference = cases.masks.masks(i)[place]
                if reference.min() == NO_MASK:
                    continue
                counts = pixel_counts(fit(drawn, reference.shape, "squeeze", nearest=True), reference, len(layers[layer]))
                for structure, (tp, fp, fn, tn) in zip(layers[layer], counts, strict=True):
                    found.add("segmentation", fact, layer, structure, tp=tp, fp=fp, fn=fn, tn=tn)
    if rows.size != (wide := tuple(rows.study.size)):
        said.append(f"  label pictures of {rows.size[0]} x {rows.size[1]} were brought to the study's {wide[0]} x {wide[1]} by their nearest pixels; "
                    "our own nets are by their scores")
    return found.settle(), said


def read_drawn(path: Path, size: Sequence[int], structures: Sequence[str]) -> np.ndarray:
    """A label picture [H, W] uint8.

    Raises:
        InputError: another size than `size`, or a number that is no structure's.
    """
    mask = read_mask(path)
    if mask.shape != tuple(size):
        raise InputError(str(path), f"{mask.shape[0]} x {mask.shape[1]} pixels", f"{size[0]} x {size[1]}, as exported (height x width)",
                         "write predictions on the grid of the exported image")
    if strange := sorted(set(np.unique(mask).tolist()) - set(range(len(structures) + 1))):
        raise InputError(str(path), f"the label{'s' if len(strange) > 1 else ''} {', '.join(map(str, strange[:SHOWN]))}",
                         ", ".join(f"{v} {k}" for k, v in ids(structures).items()), "write the numbers of export.json, no greys or colours")
    return mask.astype(np.uint8)


def pixel_counts(drawn: np.ndarray, reference: np.ndarray, structures: int) -> list[tuple[int, int, int, int]]:
    """(tp, fp, fn, tn) of each structure: pixels of two label pictures [H, W]."""
    out = []
    for k in range(1, structures + 1):
        p, t = drawn == k, reference == k
        out.append((int((p & t).sum()), int((p & ~t).sum()), int((~p & t).sum()), int((~p & ~t).sum())))
    return out


def _answered(rows: OutsideArm, data: FusionDataModule, predictions: Path, manifest: Manifest, plan: Plan) -> Scored:
    """Rows of a table of probabilities; thresholds are chosen on validation cases by the rule of our own fits, where the table has them."""
    import torch

    from synthrad.tasks import training
    from synthrad.tasks.classification import best_threshold

    classes = rows.classes(manifest)
    answers = read_probabilities(predictions, classes)
    data.setup("validate")
    val = data.val_dataloader().dataset
    names = rows.names(val.manifest, "val")
    tested, said = _checked_names(rows, data, set(answers) - set(names), str(predictions), "row", manifest, plan)
    place, thresholds = [data.classes.index(c) for c in classes], np.full(len(classes), np.nan)
    if known := [n for n in names if n in answers]:
        _refuse_missing(str(predictions), sorted(set(names) - set(known)), len(names), "row of the validation images, or none of them")
        chosen, targets = torch.tensor(np.array([answers[n] for n in names]), dtype=torch.float32), val.labels[:, place]
        for k in range(len(classes)):
            there = ~torch.isnan(targets[:, k])
            thresholds[k] = best_threshold(chosen[there, k], targets[there, k].long())
    else:
        said.append("  no validation case in the table: no threshold, so F1 is undefined")
    found = training.CaseRows()
    for external, held, cases, test_names in tested:
        for i, fact in enumerate(training.facts_of(held, np.arange(len(held)), external)):
            for k, name in enumerate(classes):
                p, target = float(answers[test_names[i]][k]), float(cases.labels[i, place[k]])
                found.add("classification", fact, "", name, probability=p, target=target, threshold=float(thresholds[k]))
    return found.settle(), said


def read_probabilities(path: Path, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Case -> [K] probabilities of a table with the columns case and `classes`, in float32 as those of our own fits are: a threshold that is one of them
    must compare as equal to it.

    Raises:
        InputError: rows longer than the header, missing or unknown columns, a case twice, a cell that is no probability.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as e:
        found = "a folder" if path.is_dir() else "no such file" if not path.exists() else f"no table ({' '.join(str(e).split())[:120]})"
        raise InputError(str(path), found, f"a CSV with the columns case, {', '.join(classes)}") from e
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first cell of longer rows for their names
        raise InputError(str(path), "rows with more cells than the header", f"a cell for each of {', '.join(map(str, table))}", "take commas at the ends of lines out")
    wanted = ("case", *classes)
    faults = [f"column {c!r}: missing" for c in wanted if c not in table]
    faults += [f"column {c!r}: unknown{f'; {hint}' if (hint := near(str(c), wanted)) else ''}; take it out" for c in table if c not in wanted]
    if faults:
        raise InputErrors(str(path), faults)
    for i in np.flatnonzero(table["case"].duplicated()):
        faults.append(f"row {i + 2}, column 'case': {table['case'][i]!r} stands in an earlier row, too; give each case once")
    values = table[list(classes)].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    for i, k in np.argwhere(~((values >= 0) & (values <= 1))):
        faults.append(f"row {i + 2}, column {classes[k]!r}: found {table[classes[k]][i]!r}, expected a probability from 0 to 1")
    if faults:
        raise InputErrors(str(path), faults)
    return dict(zip(table["case"], values.astype(np.float32), strict=True))


Tested = list[tuple[str, Manifest, Any, list[str]]]  # external name ("" = own), its rows, their HeldOutCases, their names


def _checked_names(rows: OutsideArm, data: FusionDataModule, there: set[str], where: str, what: str, manifest: Manifest, plan: Plan
                   ) -> tuple[Tested, list[str]]:
    """The test sets that are predicted: the study's own, and each external one that has a case.

    Raises:
        InputError: cases that are of no test set, or of another arm or seed; or missing ones.
    """
    tested, said = [], []
    sets = [(name, held, loader.dataset) for (name, held), loader in zip(data.test_manifests, data.test_dataloader(), strict=True)]
    expected = {name: rows.names(held, f"test{f'_{name}' if name else ''}") for name, held, _ in sets}
    strange = sorted(there.difference(*map(set, expected.values())))
    if strange and (other := _exported_for(rows, set(strange), manifest, plan, [(name, held) for name, held, _ in sets])):
        raise InputError(where, f"cases that were exported for {other} ({strange[0]})", f"those of arm {rows.arm.name!r}, seed {rows.seed}",
                         "name that arm and seed, or predict the cases of this one")
    if strange:
        many = f"{what}s" if len(strange) > 1 else what
        raise InputError(where, f"{len(strange)} {many} of no test case ({_few(strange)})", f"test cases such as {expected[''][0]}",
                         "take them out; if they were exported before the study or its data changed, export, train and predict again")
    for name, held, cases in sets:
        missing = [c for c in expected[name] if c not in there]
        if name and len(missing) == len(expected[name]):
            said.append(f"  no case of the external set {name}: not tested there")
            continue
        _refuse_missing(where, missing, len(expected[name]), f"{what} a test case")
        tested.append((name, held, cases, expected[name]))
    return tested, said


def _refuse_missing(where: str, missing: Sequence[str], of: int, expected: str) -> None:
    if missing:
        raise InputError(where, f"{of - len(missing)} of {of}, without {_few(missing)}", f"a {expected}",
                         "predict the missing cases, too: a mean over chosen images would say nothing")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _exported_for(rows: OutsideArm, strange: set[str], manifest: Manifest, plan: Plan, sets: Sequence[tuple[str, Manifest]]) -> str:
    """The task, arm and seed of this study whose export has these cases; "" for none."""
    for (task, arm), identity in row_identities(rows.study, manifest, plan).items():
        for seed in range(rows.study.seeds):
            other = replace(rows, identity=identity, seed=seed)
            if any(strange.intersection(other.names(held, f"test{f'_{name}' if name else ''}")) for name, held in sets):
                return f"task {task!r}, arm {arm!r}, seed {seed}"
    return ""


@dataclass(frozen=True)
class Outside:
    """What a run folder holds of nets that were trained elsewhere.

    Args:
        cases: their rows, None without any. fits: a mapping an import, as fit.json is, whose costs are None. stale: imports of another configuration, or whose table is gone.
    """

    cases: pd.DataFrame | None
    fits: tuple[dict[str, Any], ...]
    stale: tuple[str, ...] = ()


def read_outside(folder: Path, study: Study, manifest: Manifest, plan: Plan) -> Outside:
    """All imports that are of the study as its file is now; folders that are no seed's (a copy called seed0_old) are none."""
    paths, fits, stale = [], [], []
    places = sorted(folder.glob(IMPORTS))
    known = row_identities(study, manifest, plan) if places else {}
    for path in places:
        task, net, arm, seed = path.relative_to(folder / FOLDER).parts[:4]
        if not re.fullmatch(r"seed(0|[1-9]\d*)", seed):
            continue
        facts, table = read_facts(path), path.with_name("cases.parquet")
        if known.get((task, arm)) != facts.get("identity", "") or int(seed[4:]) >= study.seeds or not table.is_file():
            stale.append(f"{task}/{net}/{arm}/{seed}")
            continue
        paths.append(table)
        fits.append({**dict.fromkeys(UNKNOWN), **facts, "outside": True, "task": task, "net": net + MARK, "arm": arm, "seed": int(seed[4:])})
    return Outside(read_cases(paths) if paths else None, tuple(fits), tuple(stale))


def with_outside(cases: pd.DataFrame, outside: Outside, reference: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(all rows, the rows that can be compared): of an outside net the arms that were imported for the seeds of its own reference."""
    if outside.cases is None:
        return cases, cases
    kept = [part for _, part in _compared(outside.cases, reference)]
    return pd.concat([cases, outside.cases], ignore_index=True), pd.concat([cases, *kept], ignore_index=True)


def _compared(cases: pd.DataFrame, reference: str) -> Iterator[tuple[tuple[str, str, str, str], pd.DataFrame]]:
    """(task, net, external, arm) and rows of each arm that its net's reference has the same seeds as."""
    for key, rows in cases.groupby(["task", "net", "external"]):
        seeds = {arm: frozenset(part["seed"]) for arm, part in rows.groupby("arm")}
        for arm, part in rows.groupby("arm"):
            if seeds[arm] == seeds.get(reference):
                yield (*key, str(arm)), part


def banners(outside: Outside, reference: str) -> list[str]:
    """A line of the report for each net that was trained elsewhere, and one for imports that are not shown."""
    lines = []
    pairs = {key[:2] + key[3:] for key, _ in _compared(outside.cases, reference)} if outside.cases is not None else set()
    for task, net in dict.fromkeys((f["task"], f["net"]) for f in outside.fits):
        mine = [f for f in outside.fits if (f["task"], f["net"]) == (task, net)]
        arms = {a: [f["seed"] for f in mine if f["arm"] == a] for a in dict.fromkeys(f["arm"] for f in mine)}
        notes = "; ".join(dict.fromkeys(f["note"] for f in mine if f["note"]))
        lonely = [a for a in arms if (task, net, a) not in pairs]
        looks = max(f["imports"] for f in mine)
        lines.append(
            f"Net {net!r} of task {task!r} was trained outside synthrad{f' ({notes})' if notes else ''}: "
            f"{', '.join(f'{a} (seed {_seeds(s)})' for a, s in arms.items())}. Its steps and costs are not known here, nor what its weights saw before; "
            "that it learned from the exported rows alone is the word of who imported it. No verdict is about it."
            + (f" Not compared, because its {reference} was not imported for the same seeds: {', '.join(lonely)}." if lonely else "")
            + (f" Predictions of one arm and seed were imported up to {looks} times: the test images may have been used to choose." if looks > 1 else ""))
    if outside.stale:
        lines.append(f"Imported predictions are not shown, because the study or its data changed since or their cases.parquet is gone: {_few(outside.stale)}. Export, train and import again.")
    return lines


def _seeds(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def methods(outside: Outside) -> list[tuple[str, str]]:
    """A paragraph of a paper's methods; none without such nets."""
    told: dict[tuple[str, str], list[str]] = {}
    for f in outside.fits:
        told.setdefault((f["task"], f["net"].removesuffix(MARK)), []).append(f["note"])
    how = {key: "; ".join(dict.fromkeys(n for n in notes if n)) for key, notes in told.items()}
    said = "; ".join(f"{net} for task {task}{f' ({how[task, net]})' if how[task, net] else ''}" for task, net in told)
    return [("Nets trained outside", "These nets were trained by another program on the exported training sets of the arms, and their predictions on the same "
             f"test images scored alike: {said}. Our light augmentation was not part of these sets. Number of steps and costs were not recorded.")] if told else []
