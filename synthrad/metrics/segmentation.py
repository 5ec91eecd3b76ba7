"""Segmentation metrics from a cases table: Dice and IoU per subject, false positives on negatives.

Dice_ic = 2 sum tp / (2 sum tp + sum fp + sum fn), the sums over all images of subject i (design, section 6). A subject without
a reference pixel of a class has no Dice there (NaN); what a net paints on it is counted by `false_positives`.
Where the images are slices of volumes this is the Dice of the subject's volume, stacked from its slices in the table: of the whole volume
if all are there, else of those that the reader kept (`origin:kept` in the manifest; slices without contrast are never there).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from synthrad.errors import InputError
from synthrad.measurements import Measurement

METRICS = ("dice", "iou")
MACRO, RARE = "macro", "rare"
RARE_BELOW = 0.10  # prevalence among images where the class is known
_KEYS = ["layer", "class_name", "subject"]


def check_rows(cases: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Rows of one kind, refusing repeated ones (a row read twice would weigh twice)."""
    rows = cases[cases["kind"] == kind]
    keys = ["task", "net", "arm", "seed", "external", "image", "subject", "layer", "class_name"]
    if (twice := rows.duplicated(keys)).any():
        first = rows.loc[twice, keys].iloc[0].to_dict()
        raise InputError(
            "cases table",
            f"{int(twice.sum())} repeated row(s), the first {first}",
            "one row an image, class and seed",
            "read each cases.parquet once",
        )
    return rows


def subject_scores(cases: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """Dice or IoU of every subject.

    Args:
        cases: rows of one task, net and test set.
        metric: "dice" or "iou".

    Returns:
        Table with columns arm, seed, layer, class_name, subject, score (NaN without reference pixels).
    """
    if metric not in METRICS:
        raise InputError("metric", repr(metric), f"one of {METRICS}")
    rows = check_rows(cases, "segmentation")
    sums = rows.groupby(["arm", "seed", *_KEYS], sort=True)[["tp", "fp", "fn"]].sum().reset_index()
    reference, union = sums["tp"] + sums["fn"], sums["tp"] + sums["fp"] + sums["fn"]
    score = 2 * sums["tp"] / (sums["tp"] + union) if metric == "dice" else sums["tp"] / union
    return sums.drop(columns=["tp", "fp", "fn"]).assign(score=score.where(reference > 0))


def subject_matrices(
    cases: pd.DataFrame, metric: str = "dice", layer: str = "", classes: Sequence[str] = ()
) -> dict[str, pd.DataFrame]:
    """Matrices [seeds, subjects] of every arm.

    Args:
        cases: rows of one task, net and test set.
        metric: "dice" or "iou". layer: a mask layer, "" for all. classes: structures, empty for all.

    Returns:
        arm -> table with seeds as index and subjects as columns (both sorted). A value is the mean over the classes that are defined for
        that subject (macro within the subject), NaN where none is.
    """
    rows = cases[cases["kind"] == "segmentation"]
    if layer:
        rows = rows[rows["layer"] == layer]
    if unknown := sorted(set(classes) - set(rows["class_name"])):
        raise InputError(
            "classes",
            f"{unknown}",
            f"structures of the cases: {sorted(set(rows['class_name']))}",
            "correct endpoint.classes or endpoint.layer",
        )
    if classes:
        rows = rows[rows["class_name"].isin(classes)]
    scores = subject_scores(rows, metric)
    subject = scores.groupby(["arm", "seed", "subject"])["score"].mean().reset_index()
    return {
        str(arm): mine.pivot(index="seed", columns="subject", values="score")
        for arm, mine in subject.groupby("arm")
    }


def false_positives(cases: pd.DataFrame) -> pd.DataFrame:
    """What is painted where the reference has nothing.

    Returns:
        Table with columns arm, seed, layer, class_name, subjects, subject_rate (share of subjects without reference pixels that have
        a predicted one), images, image_rate, pixels (mean false positive pixels on an image without reference pixels).
    """
    rows = check_rows(cases, "segmentation")
    found = []
    for keys, mine in rows.groupby(["arm", "seed", "layer", "class_name"]):
        empty = mine[mine["tp"] + mine["fn"] == 0]
        people = mine.groupby("subject")[["tp", "fp", "fn"]].sum()
        people = people[people["tp"] + people["fn"] == 0]
        rate = [(float((t["fp"] > 0).mean()) if len(t) else np.nan) for t in (people, empty)]
        pixels = float(empty["fp"].mean()) if len(empty) else np.nan
        found.append((*keys, len(people), rate[0], len(empty), rate[1], pixels))
    return pd.DataFrame(
        found,
        columns=[
            "arm",
            "seed",
            "layer",
            "class_name",
            "subjects",
            "subject_rate",
            "images",
            "image_rate",
            "pixels",
        ],
    )


def _name(layer: str, class_name: str) -> str:
    return f"{layer}/{class_name}" if layer else class_name


def _prevalence(rows: pd.DataFrame) -> dict[str, float]:
    """Share of images with reference pixels of each class."""
    there = (rows["tp"] + rows["fn"] > 0).groupby([rows["layer"], rows["class_name"]]).mean()
    return {_name(*map(str, key)): float(v) for key, v in there.items()}


def _score_rows(mine: pd.DataFrame, metric: str, where: dict, shares: Mapping[str, float], which: str) -> list[Measurement]:
    """Per class, macro and rare-class, of one arm and seed; `where` holds the fields that all share."""
    rows = []
    for (layer, name), group in mine.groupby(["layer", "class_name"]):
        known = group["score"].dropna()
        value = float(known.mean()) if len(known) else None
        note = "" if len(known) else f"undefined: 0 of {len(group)} subjects have reference pixels"
        rows.append(
            Measurement(metric, value, n=len(known), class_name=_name(layer, name), note=note, **where)
        )
    people = mine.groupby("subject")["score"].mean().dropna()
    note = f"{MACRO}: mean over subjects of the mean over the classes defined for the subject"
    value = float(people.mean()) if len(people) else None
    rows.append(Measurement(metric, value, n=len(people), class_name=MACRO, note=note, **where))
    names = pd.Series([_name(*key) for key in zip(mine["layer"], mine["class_name"], strict=True)], index=mine.index)
    rare = sorted(n for n in set(names) if shares.get(n, 1.0) < RARE_BELOW)
    people = mine[names.isin(rare)].groupby("subject")["score"].mean().dropna()
    note = f"{len(rare)} of {names.nunique()} classes ({which} prevalence below {RARE_BELOW:g})"
    note = f"{MACRO} over {note}" if len(people) else f"undefined: {note}, 0 subjects with reference pixels"
    value = float(people.mean()) if len(people) else None
    rows.append(Measurement(metric, value, n=len(people), class_name=RARE, note=note, **where))
    return rows


def summarise(cases: pd.DataFrame, prevalence: Mapping[str, float] | None = None) -> list[Measurement]:
    """Dice, IoU and false positives of every task, net, arm, seed, class and test set, with macro and rare-class means.

    `rare` is over classes whose `prevalence` (layer/structure -> share of the training images; None: of the test images) is below 0.1.
    `subgroup` is "external:<name>" for an external test set. Single seeds carry no interval: see study/comparisons.py.
    """
    rows: list[Measurement] = []
    chosen = cases[cases["kind"] == "segmentation"]
    for (task, net, external), part in chosen.groupby(["task", "net", "external"]):
        shared = {"task": str(task), "net": str(net), "subgroup": f"external:{external}" if external else ""}
        shares, which = (_prevalence(part), "test") if prevalence is None else (prevalence, "training")
        for metric in METRICS:
            for (arm, seed), mine in subject_scores(part, metric).groupby(["arm", "seed"]):
                where = {**shared, "arm": str(arm), "seed": int(seed)}
                rows += _score_rows(mine, metric, where, shares, which)
        for row in false_positives(part).itertuples():
            where = {
                **shared,
                "arm": str(row.arm),
                "seed": int(row.seed),
                "class_name": _name(row.layer, row.class_name),
            }
            for name, value, n in (
                ("false_positive_subjects", row.subject_rate, row.subjects),
                ("false_positive_images", row.image_rate, row.images),
                ("false_positive_pixels", row.pixels, row.images),
            ):
                unit = "subject" if name.endswith("subjects") else "image"
                known = not np.isnan(value)
                why = f"over {n} {unit}s without reference pixels"
                where["note"] = why if known else f"undefined: every {unit} has reference pixels"
                where["unit"] = "subject" if unit == "subject" else "set"
                rows.append(Measurement(name, float(value) if known else None, n=int(n), **where))
    return rows
