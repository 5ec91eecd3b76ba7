"""The rung `re-identification`: is a training patient recognised in the synthetic set, though no image is a copy?

A siamese net (nets.siamese) learns from the split audit which images are of one patient. It has to show that it can, on
real pairs of patients that it never saw, training and test patients alike; then every patient's score is the best verification
score of all pairs of one of its images and a synthetic image, and members are compared with non-members as in audit.copying
(Packhaeuser et al., 2023, "Generation of anonymous chest radiographs using latent diffusion models for training thoracic
abnormality classification systems", ask the same of single pairs with a threshold).

Its own planted leak is `another image`: the set is given one image of a training patient, who is looked for by the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from synthrad.audit.copying import Search, Subjects, copy_rung
from synthrad.audit.judges import fit_verifier, small
from synthrad.audit.leaks import BEYOND, WITHIN, plant
from synthrad.audit.rungs import ALPHA, Rung
from synthrad.audit.sides import Sides, Witnesses
from synthrad.errors import InputError
from synthrad.metrics.adherence import Resampled, interval_of, subject_weights
from synthrad.nets.siamese import Siamese, closeness

NAME = "re-identification"
ANOTHER = "another image"
FEWEST_TAUGHT = 10  # patients of the split audit with two images
FEWEST_VERIFIED = 10  # training and test patients with two images
FEWEST_PLANTED = 5  # training patients with two images
LEAST_AUC = 0.8  # of the verifier, with 95 % certainty


@dataclass(frozen=True)
class Verifier:
    """A net and what it can.

    Args:
        net: trained. auc: how often another image of a patient scores above a pair with somebody else, mean over patients.
        patients: that it was measured on.
    """

    net: Siamese
    auc: Resampled
    patients: int


def taught(witnesses: Witnesses | None) -> int:
    """Patients of the split audit with two images or more."""
    return 0 if witnesses is None else _with_two(np.asarray(witnesses.rows.column("subject")))


def _with_two(subjects: np.ndarray) -> int:
    return int((np.unique(subjects, return_counts=True)[1] >= 2).sum())


def why_not(sides: Sides) -> str:
    """What is missing before a verifier could be trained and measured; "" = nothing."""
    if (has := taught(sides.witnesses)) < FEWEST_TAUGHT:
        return f"needs {FEWEST_TAUGHT} patients with two images in the split audit, has {has}"
    if (has := _with_two(sides.subjects)) < FEWEST_VERIFIED:
        return f"needs {FEWEST_VERIFIED} training and test patients with two images to verify the net on, has {has}"
    return ""


def make_verifier(sides: Sides, seed: int = 0) -> Verifier:
    """Train on the split audit, measure on training and test patients; which of them are members plays no part."""
    net = fit_verifier(sides.witnesses, seed)
    auc, patients = verification_auc(verification(net, sides.real, sides.real), sides.subjects, seed)
    return Verifier(net, auc, patients)


@torch.no_grad()
def verification(net: Siamese, one: Tensor, other: Tensor) -> np.ndarray:
    """Closeness [n, m] of the features of images [n, C, H, W] and [m, C, H, W]: higher = more likely the same patient."""
    a, b = (torch.cat([net.embed(part) for part in small(x).split(64)]) for x in (one, other))
    return closeness(a, b).numpy()


def verification_auc(scores: np.ndarray, subjects: np.ndarray, seed: int = 0) -> tuple[Resampled, int]:
    """Of each patient with two images: how often one of its pairs scores above one of its images with somebody else's; the mean.

    Args:
        scores: [n, n] of all pairs. subjects: [n].

    Returns:
        that mean with an interval over patients, and how many these are.
    """
    found = []
    for s in np.unique(subjects):
        mine = np.flatnonzero(subjects == s)
        if len(mine) < 2 or len(mine) == len(subjects):
            continue
        own = scores[np.ix_(mine, mine)][np.triu_indices(len(mine), 1)]
        others = np.sort(scores[np.ix_(mine, np.flatnonzero(subjects != s))].ravel())
        found.append(float(np.mean(np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")) / 2 / len(others)))
    weights = subject_weights(np.arange(len(found)), 2000, seed)
    return interval_of(weights @ np.array(found) / len(found)), len(found)


class VerificationSpace:
    """How sure the verifier is that a synthetic image shows the patient of a real one (audit.copying.Space).

    Args:
        synthetic: [S, C, H, W]; real: [R, C, H, W]. net: verifier. seed: of planted copies.
    """

    claims = (ANOTHER, "exact")

    def __init__(self, name: str, synthetic: Tensor, real: Tensor, net: Siamese, seed: int):
        self.name, self.seed, self._net, self._synthetic, self._real = name, seed, net, synthetic, real

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See Space; what is printed is the cosine of the features."""
        scores = verification(self._net, self._real, self._synthetic)
        index = scores.argmax(1)
        highest = scores[np.arange(len(scores)), index]
        return highest, index, 1 - np.exp(-2 * highest) / 2

    def planted(self, leak: str, chosen: np.ndarray) -> list[dict[int, float]]:
        """See Space. `another image`: the chosen image stands in the set and does not count among its patient's own."""
        images = self._real[torch.from_numpy(chosen)]
        copies = images if leak == ANOTHER else plant(leak, images, self._synthetic, self.seed)
        scores = verification(self._net, self._real, copies)
        return [{int(r): float(v) for r, v in enumerate(scores[:, k]) if leak != ANOTHER or r != chosen[k]} for k in range(len(chosen))]


def reidentification_rung(sides: Sides, verifier: Verifier | None, suffix: str = "", *, rungs: int, seed: int = 0, trials: int = 50
                          ) -> tuple[Rung, Search | None]:
    """The rung, with its self-test; a reason where it cannot be tested.

    Args:
        verifier: made by `make_verifier`; None where `why_not` says why not. rungs: of the whole audit.
    """
    name = NAME + suffix
    if verifier is None:
        return Rung(name, reason=why_not(sides)), None
    auc = verifier.auc
    able = f"verifier's AUC is {auc.value:.2f} [{auc.low:.2f}, {auc.high:.2f}] on real pairs of {verifier.patients} patients"
    facts = {"verifier": {"auc": auc.value, "low": auc.low, "high": auc.high, "patients": verifier.patients, "taught": taught(sides.witnesses)}}
    if auc.low < LEAST_AUC:
        return Rung(name, reason=f"{able}; needs {LEAST_AUC} with 95 % certainty: more patients with two images in the split audit, which has "
                                 f"{taught(sides.witnesses)}", facts=facts), None
    try:
        subjects = Subjects(sides.subjects, sides.member, seed, ALPHA / rungs)
    except InputError as e:
        return Rung(name, reason=f"{e.found}; needs {e.expected}", facts=facts), None
    counts = np.bincount(subjects.of_image)
    pool = np.flatnonzero((counts >= 2) & subjects.member & subjects.compared)
    if len(pool) < FEWEST_PLANTED:
        return Rung(name, reason=f"needs {FEWEST_PLANTED} training patients with two images for its self-test, has {len(pool)}", facts=facts), None
    space = VerificationSpace(name, sides.synthetic, sides.real, verifier.net, seed)
    rung, found = copy_rung(space, subjects, rungs=rungs, trials=trials, seed=seed, leaks=(ANOTHER, *WITHIN, *BEYOND), pool=pool)
    return replace(rung, reason=f"{rung.reason}; {able}", facts={**rung.facts, **facts}), found
