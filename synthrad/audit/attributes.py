"""The rung `attributes`: does the synthetic set help to guess what is hidden of a training patient, more than of a test patient?

Attribute inference (Stadler et al., 2022, "Synthetic data - anonymisation groundhog day", section 5; Houssiau et al., 2022, TAPAS): the
attacker has an image of the patient, and the set with its labels and attributes. He takes the nearest synthetic image (features of
audit.copying, mirrored ones too) and guesses that the patient has its values. What could be guessed without the set is no leak: a
judge from the split audit, which never saw the set, says how likely each true value was anyway. A patient's score is

    w x mean over the known values of (right - probability that the judge gave the truth)

and w is how much nearer the match is than that of most patients: a guess from a near copy counts, one from afar hardly does.
Members are compared with non-members, all values together and each alone.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from synthrad.audit.copying import FeatureSpace, Search, Subjects, copy_rung
from synthrad.audit.judges import FEWEST_EACH, FEWEST_SUBJECTS, Classifier, Target, enough, targets_of
from synthrad.audit.rungs import ALPHA, Rung
from synthrad.audit.sides import Sides
from synthrad.errors import InputError
from synthrad.metrics.adherence import interval_of, subject_weights
from synthrad.progress import progress
from synthrad.statistics.exchangeability import TESTS, Exchange

NAME = "attributes"
EXACT = ("run", "top", "ranks")  # of statistics.exchangeability.TESTS: `tail` alarmed in 60 % of relabellings of a value that 7 % had
SMOOTH = 3  # values whose mean score is even enough for `tail`: 0 of 120 relabellings of rare ones alarmed, of one alone 2 to 5 %
MOST_NUMBERS = 200_000_000  # of all permutations of one test


def usable(sides: Sides) -> list[Target]:
    """Targets that enough real patients and synthetic images have, and lack."""
    drawn = np.arange(len(sides.drawn))
    return [t for t in targets_of(sides) if min(enough(t.of(sides.rows), sides.subjects)) >= FEWEST_EACH and min(enough(t.of(sides.drawn), drawn)) >= FEWEST_EACH]


class AttributeSpace:
    """Guesses from the nearest synthetic image (audit.copying.Space).

    Args:
        near: where images are compared. truth: [R, T], 1, 0 or NaN (unknown); each image knows one at least. carried: [S, T], of
            the synthetic images, NaN = the set does not say. expected: [R, T], probability that the judge gave the truth.
    """

    claims = ("exact", "flipped")

    def __init__(self, name: str, near: FeatureSpace, truth: np.ndarray, carried: np.ndarray, expected: np.ndarray):
        self.name, self._near, self.truth, self._expected = name, near, truth, expected
        self._close, self.index, self._distance = near.best()
        middle = np.median(self._close)
        self._middle, self._spread = middle, max(float(np.median(np.abs(self._close - middle))), 1e-6)
        guess = carried[self.index]
        self.right = np.where(np.isnan(truth), np.nan, np.where(np.isnan(guess), expected, guess == truth))  # no guess: as good as the judge

    def weight(self, close: np.ndarray) -> np.ndarray:
        """Of guesses, from how close the match is: softplus of median absolute deviations above the median."""
        return np.logaddexp(0, (close - self._middle) / self._spread)

    @property
    def gain(self) -> np.ndarray:
        """[R, T]: right - expected, NaN where the truth is not known."""
        return self.right - self._expected

    def of_target(self, k: int) -> np.ndarray:
        """[R] scores of one target alone; unknown ones gain nothing."""
        return self.weight(self._close) * np.nan_to_num(self.gain[:, k])

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See Space."""
        score = self.weight(self._close) * np.nanmean(self.gain, 1)
        return score, self.index, score

    def planted(self, leak: str, chosen: np.ndarray) -> list[dict[int, float]]:
        """See Space: copies that carry their patients' values."""
        found = []
        for own, copy in zip(chosen, self._near.planted(leak, chosen), strict=True):
            guess = self.truth[own]
            rows = {}
            for image, close in copy.items():
                known = ~np.isnan(self.truth[image])
                if close > self._close[image] and (both := known & ~np.isnan(guess)).any():
                    gain = np.where(both, (guess == self.truth[image]) - self._expected[image], 0)[known].mean()
                    rows[image] = float(self.weight(np.array(close)) * gain)
            found.append(rows)
        return found


def attribute_rung(sides: Sides, classifier: Classifier | None, suffix: str = "", *, rungs: int, seed: int = 0, trials: int = 50
                   ) -> tuple[Rung, Search | None]:
    """The rung, with its self-test; a reason where it cannot be tested.

    Args:
        classifier: the judge that never saw the set; None = the split audit has too few of every value. rungs: of the whole audit.
    """
    name = NAME + suffix
    targets = usable(sides)
    if not targets:
        return Rung(name, reason=f"needs a label or attribute that {FEWEST_EACH} real patients and {FEWEST_EACH} images of the set have, and as many "
                                 "lack; there is none"), None
    has = 0 if sides.witnesses is None else len(set(sides.witnesses.rows.column("subject")))
    if has < FEWEST_SUBJECTS:
        return Rung(name, reason=f"needs {FEWEST_SUBJECTS} patients in the split audit, has {has}"), None
    truth = np.stack([t.of(sides.rows) for t in targets], 1)
    known = np.flatnonzero(~np.isnan(truth).all(1))
    truth, subjects_of = truth[known], sides.subjects[known]
    try:
        tests = TESTS if len(targets) >= SMOOTH else EXACT
        subjects = Subjects(subjects_of, sides.member[known], seed, ALPHA / (2 * rungs), tests)
    except InputError as e:
        return Rung(name, reason=f"{e.found}; needs {e.expected}"), None
    expected = expectations(classifier, sides, targets)[known]
    expected = np.where(truth == 1, expected, 1 - expected)
    carried = np.stack([t.of(sides.drawn) for t in targets], 1)
    space = AttributeSpace(name, FeatureSpace(name, sides.synthetic, sides.real[known], seed), truth, carried, expected)
    rung, found = copy_rung(space, subjects, rungs=2 * rungs, trials=trials, seed=seed)  # half of the level is for each target alone
    wanted = math.ceil(40 * len(EXACT) * len(targets) * rungs)  # permutations with which one value alone can fail the rung
    fine = Exchange(subjects.member, subjects.images, min(wanted, MOST_NUMBERS // len(subjects.member)), seed, EXACT)
    each = [_alone(t, k, space, subjects, fine, expected, seed) for k, t in enumerate(progress(targets, desc=f"{name}: each value", unit="value"))]
    alone = min(1.0, len(each) * min(e["p"] for e in each))
    p = min(1.0, 2 * min(rung.p, alone))
    widest = min(each, key=lambda e: e["p"])
    r = found.result
    said = (f"{len(targets)} labels and values ({', '.join(t.name for t in targets[:4])}{' ...' if len(targets) > 4 else ''}); guesses from the nearest "
            f"synthetic image gain more for training than for test patients with an AUC of {r.auc:.2f}; strongest alone: {widest['name']}, right for "
            f"{widest['member']:.0%} of training and {widest['non_member']:.0%} of test patients (without the set {widest['member_before']:.0%} and "
            f"{widest['non_member_before']:.0%})")
    facts = {**{k: v for k, v in rung.facts.items() if not k.startswith("highest")}, "targets": each, "p_together": found.result.combined, "p_alone": alone}
    return replace(rung, p=p, reason=said, facts=facts), found


def expectations(classifier: Classifier | None, sides: Sides, targets: list[Target]) -> np.ndarray:
    """[R, T]: probability of each target without the set: the judge's; the share in the split audit where it has too few of it."""
    rows = sides.witnesses.rows
    out = np.empty((len(sides.real), len(targets)))
    answers = classifier(sides.real) if classifier else None
    for k, target in enumerate(targets):
        values = target.of(rows)
        if classifier and target in classifier.targets and min(enough(values, np.asarray(rows.column("subject")))) >= FEWEST_EACH:
            out[:, k] = answers[:, classifier.targets.index(target)]
        else:
            out[:, k] = (np.nansum(values) + 1) / ((~np.isnan(values)).sum() + 2)
    return out


def _alone(target: Target, k: int, space: AttributeSpace, subjects: Subjects, exchange: Exchange, expected: np.ndarray, seed: int) -> dict:
    """One target: shares of right guesses with and without the set, the advantage of members with an interval, and its own p."""
    scores, _ = subjects.gather(space.of_target(k))
    known = ~np.isnan(space.truth[:, k])
    member = subjects.member[subjects.of_image[known]]
    right, before = space.right[known, k], (expected[known, k] > 0.5).astype(float)
    weights = subject_weights(subjects.of_image[known], 500, seed)
    share = lambda values, side: (weights[:, side] @ values[side]) / np.maximum(weights[:, side].sum(1), 1e-9)  # noqa: E731
    gap = interval_of(share(right, member) - share(right, ~member))
    return {"name": target.name, "p": exchange.test(scores).combined, "member": float(share(right, member)[0]),
            "non_member": float(share(right, ~member)[0]), "member_before": float(share(before, member)[0]),
            "non_member_before": float(share(before, ~member)[0]), "advantage": gap.value, "low": gap.low, "high": gap.high}
