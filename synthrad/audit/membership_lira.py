"""The rung `membership/lira`: is the generator more at home with a training patient than shadows are that never saw the patient?

What a generator's loss says of a patient depends on how easy the patient is before it depends on who was trained on. Shadows (audit.shadows) say for
each patient what to expect of it in and out of training; the score is the likelihood ratio of the two (statistics.likelihood_ratio; Carlini et al.
2022). The self-test plants as membership_weights does, in training patients: copies of the generator learn some of them by heart.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tqdm import tqdm

from synthrad.audit.membership import Attack, Patients, attack, told_power
from synthrad.audit.membership_pictures import read_pictures
from synthrad.audit.membership_weights import COPIES, KNOWN, LEAK, MOST_PLANTED, SHOWINGS, Weights, shown_rows
from synthrad.audit.rungs import ALPHA, Rung
from synthrad.audit.shadows import Pool, Recipe, batch_of, halves, not_built, shadow_scores
from synthrad.errors import InputError
from synthrad.progress import progress
from synthrad.records import Manifest
from synthrad.statistics.exchangeability import FEWEST
from synthrad.statistics.likelihood_ratio import likelihood_ratio

NAME = "membership/lira"
VERSION = 2  # raise by hand when its results change


def lira_rung(weights: Weights, members: Manifest, recipe: Recipe, *, rungs: int, seed: int = 0, trials: int = 50, copies: int = COPIES,
              showings: int = SHOWINGS) -> Rung:
    """The rung, with its power; shadows that `recipe.folder` has are reused.

    Args:
        members: real rows of training patients whom the set's lineage names, and of test patients. rungs: of the whole audit.
        trials, copies, showings: of the self-test, as in membership_weights.weights_rungs.
    """
    if reason := not_built(weights.module):
        return Rung(NAME, reason=reason)
    rows = shown_rows(weights, members)
    try:
        patients = Patients(np.asarray(rows.column("subject")), np.asarray(rows.column("split") == "train"), seed)
    except InputError as e:
        return Rung(NAME, reason=f"{e.found}; needs {e.expected}")
    pool = Pool(read_pictures(rows, weights.spec, weights.where), rows, patients.of_image, weights.parts[0].names[0])
    inside = halves(len(patients.names), recipe.number, seed)
    shadows = shadow_scores(weights.module, weights.digest, pool, inside, recipe, batch_of(weights.where), seed)
    chosen = _to_plant(patients, copies, seed)
    shown = sum((showings + 1) * int(np.isin(patients.of_image, c).sum()) for c in chosen) + (len(chosen) + 1) * len(rows)
    with progress(total=shown, desc=NAME, unit="image") as bar:
        made = attack(_ratio(pool.known(weights.module, bar), shadows, inside), patients.exchange)
        power = _power(weights, pool, patients, shadows, inside, chosen, ALPHA / rungs, trials, showings, seed, bar)
    return _rung(made, patients, pool, recipe, recipe.images or weights.module.images_seen, power, copies, showings)


def _ratio(scores: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Likelihood ratios of patients, [n]; each model's scores are taken about their own mean: one that is better with all of them knows none of them."""
    return likelihood_ratio(scores - scores.mean(), shadows - shadows.mean(1, keepdims=True), inside)


def _to_plant(patients: Patients, copies: int, seed: int) -> list[np.ndarray]:
    """For each copy the training patients that it learns: some whom a test patient has as many images as."""
    can = np.intersect1d(patients.exchange.used, np.flatnonzero(patients.member))
    rng = np.random.default_rng([seed, 5])
    return [np.sort(rng.permutation(can)[:MOST_PLANTED]) for _ in range(copies)]


def _power(weights: Weights, pool: Pool, patients: Patients, shadows: np.ndarray, inside: np.ndarray, chosen: list[np.ndarray], level: float, trials: int,
           showings: int, seed: int, bar: tqdm) -> dict[int, float]:
    """Planted patients -> share of trials in which the tests see them; each trial takes a copy and some of its patients."""
    numbers = sorted({FEWEST, *(len(c) for c in chosen)})
    hits = dict.fromkeys(numbers, 0)
    for turn, planted in enumerate(chosen):
        pictures = pool.pictures.take(np.flatnonzero(np.isin(patients.of_image, planted)))
        copy = weights.parts[0].learned(pictures, showings, seed + turn, bar.update)
        bar.update(len(pictures))
        ratio = _ratio(pool.known(copy.module, bar), shadows, inside)
        rng = np.random.default_rng([seed, turn, 6])
        for k in numbers:
            for trial in range(turn, trials, len(chosen)):
                some = rng.choice(planted, k, replace=False)
                hits[k] += patients.planted(ratio, ratio[some], patients.images[some], level, seed + trial)
    return {k: n / trials for k, n in hits.items()}


def _rung(made: Attack, patients: Patients, pool: Pool, recipe: Recipe, images: int, power: dict[int, float], copies: int, showings: int) -> Rung:
    gap = f"{patients.left_out} training patients were not compared: no test patient has as many images as they" if patients.left_out else ""
    said = (f"{made.said}; {pool.statistic} beside that of {recipe.number} shadows, each shown {images:,} images of half of the training and test patients; training patients "
            f"{KNOWN} ({copies} copies of it, {showings} showings an image) {told_power(power)}")
    facts = {**made.facts, "shadows": recipe.number, "shadow_images": images, "statistic": pool.statistic}
    rung = Rung(NAME, made.result.combined, reason=said, auc=made.auc, gap=gap, facts=facts)
    return replace(rung, power={LEAK: power}, claims=(LEAK,), planted=min(power), planting=KNOWN)
