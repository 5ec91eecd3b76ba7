"""The rungs `membership/<statistic>` of a checkpoint: does the generator know training patients better than test patients?

generators.familiarity says what is asked of each kind. The self-test plants what it looks for: copies of the generator learn patients of
the splits val and audit by heart, and these alone stand for the members. That is the power against a generator that overfitted
to so many patients; a few who are known among many who are not are the business of the copies rungs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from synthrad.audit.membership import Patients, attack, told_power
from synthrad.audit.membership_pictures import masked_rows, read_pictures
from synthrad.audit.rungs import ALPHA, Rung
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.generators.familiarity import Part, Pictures, parts_of
from synthrad.generators.loading import load_generator
from synthrad.lineage import Lineage
from synthrad.progress import progress
from synthrad.records import Manifest
from synthrad.statistics.exchangeability import FEWEST

COPIES = 3  # of the generator, that learn other patients each
SHOWINGS = 50  # of each planted image
MOST_PLANTED = 25  # patients a copy
LEAK = "overfitted"
KNOWN = "that the generator had learned by heart"


@dataclass(frozen=True)
class Weights:
    """A generator whose weights are attacked.

    Args:
        module: loaded, on its device. digest: of its checkpoint. spec, info, lineage: what the checkpoint says of its data. where: its file.
    """

    module: Any
    digest: str
    spec: dict[str, Any]
    info: DatasetInfo
    lineage: Lineage
    where: str

    @property
    def parts(self) -> list[Part]:
        """What of it is asked."""
        return parts_of(self.module)

    @property
    def names(self) -> list[str]:
        """Of the rungs."""
        return [f"membership/{name}" for part in self.parts for name in part.names]


def load_weights(checkpoint: str, drawn: Manifest, real: Manifest, device: str = "auto") -> Weights:
    """The generator of a set.

    Raises:
        InputError: no generator's checkpoint, one of a kind that there is no attack on, not the one that drew the set, or one of other data.
    """
    import torch

    module, info, lineage, spec = load_generator(checkpoint)
    parts_of(module)
    digest, makers = lineage.fitted[-1].digest, {f.digest for f in drawn.info.lineage.fitted if f.kind == "generator"}
    if digest not in makers:
        found = "a generator that SYNTHETIC was not drawn from" if makers - {""} else "a set whose lineage names no generator"
        raise InputError(f"--checkpoint {checkpoint}", found, "the checkpoint that drew SYNTHETIC: an audit of the images says nothing of other weights",
                         "give the file that `synthrad sample --checkpoint` was given, or leave --checkpoint out")
    for key in ("id", "classes", "layers", "channels", "resize", "intensity"):
        if (mine := getattr(info, key)) != (theirs := getattr(real.info, key)):
            raise InputError(f"--checkpoint {checkpoint}: {key}", str(mine), f"{theirs}, as --real has it", "give the manifest that it was trained on")
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return Weights(module.to(where), digest, spec, info, lineage, str(checkpoint))


@dataclass(frozen=True)
class Asked:
    """Whom a generator is asked about.

    Args:
        pictures: of training and test patients; patients: those. held, owner: pictures of others that can be planted, and whose each is.
        gap: whom it is not asked about.
    """

    pictures: Pictures
    patients: Patients
    held: Pictures | None
    owner: np.ndarray
    gap: str


def weights_rungs(weights: Weights, members: Manifest, real: Manifest, *, rungs: int, seed: int = 0, trials: int = 50, copies: int = COPIES,
                  showings: int = SHOWINGS) -> list[Rung]:
    """All rungs of a checkpoint, with their power.

    Args:
        members: real rows of training patients whom the set's lineage names, and of test patients. real: all rows.
        rungs: of the whole audit. trials: of the self-test, for each number of patients; copies: of the generator that they choose
            from. showings: of each planted image.
    """
    rows = shown_rows(weights, members)
    try:
        patients = Patients(np.asarray(rows.column("subject")), np.asarray(rows.column("split") == "train"), seed)
    except InputError as e:
        return [Rung(name, reason=f"{e.found}; needs {e.expected}") for name in weights.names]
    asked = _asked(weights, rows, members, patients, real)
    chosen, others = _to_plant(asked, copies, seed), int((~asked.patients.member[asked.patients.of_image]).sum())
    images = sum((showings + 1) * int(np.isin(asked.owner, c).sum()) + others for c in chosen) + len(asked.pictures)
    made: list[Rung] = []
    with progress(total=images * len(weights.parts), desc="membership", unit="image") as bar:
        for part in weights.parts:
            power = _power(part, asked, chosen, ALPHA / rungs, trials, showings, seed, bar)
            scores = part.scores(asked.pictures, bar.update)
            made += [_rung(name, asked, scores[name], power[name], copies, showings) for name in part.names]
    return made


def shown_rows(weights: Weights, members: Manifest) -> Manifest:
    """Rows with the masks that the generator learned from; of training rows those that it was shown."""
    shown = np.isin(members.column("digest"), list(weights.spec["fingerprints"])) | (members.column("split") == "test")
    return members.take(np.flatnonzero(masked_rows(members, weights.spec) & shown))


def _asked(weights: Weights, rows: Manifest, members: Manifest, patients: Patients, real: Manifest) -> Asked:
    """Pictures of these rows, and of patients whom no part of the generator was trained on."""
    strange = np.isin(real.column("split"), ("val", "audit")) & ~np.isin(real.column("digest"), list(weights.lineage.fingerprints()))
    rest = real.take(np.flatnonzero(strange & (real.column("source") == "real") & masked_rows(real, weights.spec)))
    gap = f"{patients.left_out} training patients were not compared: no test patient has as many images as they" if patients.left_out else ""
    train = members.where(split="train")
    if unseen := len(set(train.column("subject")) - set(rows.column("subject"))):
        gap += f"{'; ' if gap else ''}{unseen} training patients were not compared: --real has other images of them, or no masks, than the generator was shown"
    held = read_pictures(rest, weights.spec, weights.where) if len(rest) else None
    return Asked(read_pictures(rows, weights.spec, weights.where), patients, held, np.asarray(rest.column("subject")), gap)


def _to_plant(asked: Asked, copies: int, seed: int) -> list[np.ndarray]:
    """For each copy the patients that it learns; [] = there are too few whom a test patient has as many images as."""
    rng, others = np.random.default_rng([seed, 1]), asked.patients.images[~asked.patients.member]
    names, images = np.unique(asked.owner, return_counts=True)
    names = names[np.isin(images, others)]
    return [rng.permutation(names)[:MOST_PLANTED] for _ in range(copies)] if len(names) >= FEWEST else []


def _numbers(chosen: list[np.ndarray]) -> list[int]:
    """Numbers of patients that are planted: the fewest that can be tested first."""
    return sorted({FEWEST, *(len(names) for names in chosen)}) if chosen else []


def _power(part: Part, asked: Asked, chosen: list[np.ndarray], level: float, trials: int, showings: int, seed: int, bar: tqdm) -> dict[str, dict[int, float]]:
    """For each statistic: planted patients -> share of trials in which the tests see them; each trial takes a copy and some of its patients."""
    numbers, others = _numbers(chosen), np.flatnonzero(~asked.patients.member[asked.patients.of_image])
    hits = {name: dict.fromkeys(numbers, 0) for name in part.names}
    for turn, names in enumerate(chosen):
        at = np.flatnonzero(np.isin(asked.owner, names))
        held = asked.held.take(at)
        copy = part.learned(held, showings, seed + turn, bar.update)
        planted, spared = copy.scores(held, bar.update), copy.scores(asked.pictures.take(others), bar.update)
        images = np.array([(asked.owner[at] == n).sum() for n in names])
        rng = np.random.default_rng([seed, turn, 2])
        mine = len(range(turn, trials, len(chosen)))
        for name in part.names:
            scores = np.zeros(len(asked.patients.of_image))
            scores[others] = spared[name]
            theirs = np.array([planted[name][asked.owner[at] == n].mean() for n in names])
            for k in numbers:
                for trial in range(mine):
                    some = rng.choice(len(names), k, replace=False)
                    hits[name][k] += asked.patients.planted(asked.patients.gather(scores), theirs[some], images[some], level, seed + trial)
    return {name: {k: n / trials for k, n in found.items()} for name, found in hits.items()}


def _rung(name: str, asked: Asked, scores: np.ndarray, power: dict[int, float], copies: int, showings: int) -> Rung:
    made = attack(asked.patients.gather(scores), asked.patients.exchange)
    rung = Rung(f"membership/{name}", made.result.combined, auc=made.auc, gap=asked.gap, facts=made.facts)
    if not power:
        return replace(rung, reason=f"{made.said}; fewer than {FEWEST} patients of the splits val and audit that could be planted")
    said = f"{made.said}; patients {KNOWN} ({copies} copies of it, {showings} showings an image) {told_power(power)}"
    return replace(rung, reason=said, power={LEAK: power}, claims=(LEAK,), planted=min(power), planting=KNOWN)
