"""Best, median and worst test image of the endpoint, at a fixed window, with the reference contours and what each arm reached there.

They are chosen by the reference arm, so that no arm is shown at its best.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from synthrad.metrics import classification
from synthrad.records import Manifest
from synthrad.study.pictures import Picture, Triplet, picture_of, show, structures_of
from synthrad.study.plots import STYLE, WIDTH, as_uri
from synthrad.study.verdicts import METRIC_NAMES, Endpoint

RANKS = {"best": 1.0, "median": 0.5, "worst": 0.0}  # share of the images that are no better
MOST_ARMS = 6


def scores_of(cases: pd.DataFrame, endpoint: Endpoint) -> pd.DataFrame:
    """One score an image and arm, mean over seeds and classes, larger is better; index image, columns arms.

    Segmentation: Dice (IoU for that endpoint) of the image. Classification: 1 - |probability - target|.
    """
    rows = cases[(cases["task"] == endpoint.task) & (cases["net"] == endpoint.net) & (cases["external"] == "")]
    if endpoint.classes:
        rows = rows[rows["class_name"].isin(list(endpoint.classes))]
    if endpoint.metric in classification.METRICS:
        rows = rows[rows["target"].notna()]
        score = 1 - (rows["probability"] - rows["target"]).abs()
    else:
        rows = rows[rows["layer"] == endpoint.layer] if endpoint.layer else rows
        rows = rows[rows["tp"] + rows["fn"] > 0]
        union = rows["tp"] + rows["fp"] + rows["fn"]
        score = 2 * rows["tp"] / (rows["tp"] + union) if endpoint.metric == "dice" else rows["tp"] / union
    return rows.assign(score=score).groupby(["image", "arm"])["score"].mean().unstack("arm")


def examples(cases: pd.DataFrame, endpoint: Endpoint, manifest: Manifest, reference: str, arms: Sequence[str]) -> list[Picture]:
    """Three pictures, best to worst by the reference arm; [] where it has fewer than three images with a score.

    Args:
        cases: of every fit. arms: named in the captions, in this order.
    """
    scores = scores_of(cases, endpoint)
    if reference not in scores or len(ranked := scores.dropna(subset=[reference]).sort_values([reference], kind="stable")) < 3:
        return []
    rows = {d: i for i, d in enumerate(manifest.column("digest"))}
    what = "1 − error" if endpoint.metric in classification.METRICS else METRIC_NAMES[endpoint.metric]
    found = []
    for name, share in RANKS.items():
        image = ranked.index[round(share * (len(ranked) - 1))]
        if image not in rows:
            return []
        told = [f"{arm} {ranked.loc[image, arm]:.2f}" for arm in (reference, *(a for a in arms if a != reference))[:MOST_ARMS] if arm in ranked]
        found.append(picture_of(manifest, rows[image], f"{name} by {reference}\n{what}: " + "\n".join(told)))
    return found


def draw_examples(pictures: Sequence[Picture]) -> str:
    """Side by side, contours of the reference masks on top; a PNG data URI."""
    if not pictures:
        return ""
    height, width = pictures[0].image.shape
    structures = structures_of([Triplet(p, p, p) for p in pictures])
    lines = max(p.caption.count("\n") + 1 for p in pictures)
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH, min(WIDTH / 3 * height / width, 3.2) + 0.16 * lines + 0.2), layout="constrained")
        for axes, picture in zip(figure.subplots(1, len(pictures), squeeze=False)[0], pictures, strict=True):
            show(axes, picture, structures, caption=False)
            axes.set_xlabel(picture.caption, fontsize=8, loc="left", labelpad=4)
        return as_uri(figure, dpi=130)
