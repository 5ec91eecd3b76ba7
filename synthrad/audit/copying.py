"""The rungs `copies/...`: do training patients resemble the synthetic set more than test patients do?

A patient's score is the similarity of the best of all pairs of one of its images and a synthetic image. Patients with as many
images form a stratum. statistics.exchangeability says what members may score by chance; what the same tests would
have found is measured on copies of training images that are planted into the set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from synthrad.audit.leaks import BEYOND, WITHIN, plant
from synthrad.audit.rungs import ALPHA, Rung
from synthrad.audit.sides import Sides
from synthrad.errors import InputError
from synthrad.metrics.copies import Moves, Pairs
from synthrad.metrics.features import Standardizer, radiomics
from synthrad.progress import progress
from synthrad.records import Manifest
from synthrad.statistics.exchangeability import TESTS, Exchange, MemberTest

GRID = Moves()
CLOSEST = 1 - 1e-6  # correlation beyond which the logarithm of Fisher's transform says nothing more
REFINED = 3  # real images beside its own that a planted copy is compared with closely
DRAWN_AT_ONCE = 512  # synthetic images whose feature distances are held
SHOWN = 12  # pairs that are kept for a reader
MOVES = ("exact", "flipped", "shifted", "rotated", "rescaled", "cropped")  # leaks that masks can have, too


@dataclass(frozen=True)
class Match:
    """A training image and the synthetic image most like it.

    Args:
        real, synthetic: rows. similarity: as its space measures it. above: of how many non-members, as a share, it is above.
    """

    real: int
    synthetic: int
    similarity: float
    above: float


class Space(Protocol):
    """A way of being similar.

    Attributes:
        name: of the rung. claims: leaks that a pass needs to have been found.
    """

    name: str
    claims: Sequence[str]

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each real image: score [R] (higher = more alike, any scale), row of the synthetic image [R], similarity to print [R]."""

    def planted(self, leak: str, chosen: np.ndarray) -> list[dict[int, float]]:
        """For the copy of each chosen real image [k]: real image -> score, of its own and of others that it resembles."""


class ImageSpace:
    """Correlation under moves (metrics.copies); scores are Fisher's transform of it.

    Args:
        synthetic: [S, C, H, W]; real: [R, C, H, W]. seed: of the copies.
    """

    def __init__(self, name: str, synthetic: Tensor, real: Tensor, claims: Sequence[str], seed: int, moves: Moves):
        self.name, self.claims, self.seed, self.moves = name, claims, seed, moves
        self._synthetic, self._real = synthetic, real
        self._planted: dict[str, list[dict[int, float]]] = {}
        self._refined_from = torch.full((len(real),), -1.0)  # once `best` has searched: what a copy must reach to be looked at closely

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See Space."""
        with progress(total=len(self._real), desc=f"{self.name}: searching", unit="image") as bar:
            found = Pairs(self._synthetic, self._real, self.moves).best(bar.update)
        self._refined_from = found.refined_from
        similarity = found.similarity.numpy().astype(float)
        return fisher(similarity), found.index.numpy(), similarity

    def plant_all(self, leaks: Sequence[str], chosen: np.ndarray) -> None:
        """Copies of all kinds in one search: most of its time goes to the real images' moves."""
        copies = torch.cat([plant(leak, self._real[chosen], self._synthetic, self.seed) for leak in leaks])
        own = torch.from_numpy(np.tile(chosen, len(leaks)))
        pairs = Pairs(copies, self._real, self.moves)
        values, moves = [], []
        for value, move in progress(pairs.coarse(), total=len(self._real), desc=f"{self.name}: self-test", unit="image"):
            values.append(value)
            moves.append(move)
        values, moves = torch.stack(values), torch.stack(moves)  # [R, copies], [R, copies, 5]
        near = values.topk(min(REFINED, len(values)), dim=0).indices  # [REFINED, copies]
        real = torch.cat([own[None], near])
        at = torch.arange(len(copies)).expand_as(real)
        similarity, _ = pairs.refine(at.flatten(), real.flatten(), moves[real, at].flatten(0, 1))
        scores = fisher(similarity.numpy().astype(float)).reshape(real.shape)
        looked = (values[real, at] >= self._refined_from[real]).numpy()  # as in the search itself: others may crowd a copy out
        rows = [{int(i): x for i, x, seen in zip(r, s, k, strict=True) if seen} for r, s, k in zip(real.T, scores.T, looked.T, strict=True)]
        n = len(chosen)
        self._planted = {leak: rows[k * n : (k + 1) * n] for k, leak in enumerate(leaks)}

    def planted(self, leak: str, chosen: np.ndarray) -> list[dict[int, float]]:
        """See Space."""
        if leak not in self._planted:
            self.plant_all([*WITHIN, *BEYOND], chosen)
        return self._planted[leak]


class FeatureSpace:
    """Radiomics (metrics.features): minus the logarithm of the distance in standard deviations of the real images.

    Mirrored real images count as well. It sees what keeps texture and layout, wherever pixels have gone.
    """

    claims = ("exact", "flipped")

    def __init__(self, name: str, synthetic: Tensor, real: Tensor, seed: int):
        self.name, self.seed, self._images, self._synthetic_images = name, seed, real, synthetic
        views = [radiomics(real), radiomics(real.flip(-1))]
        self._standardise = Standardizer.fit(torch.cat(views))  # of members and non-members alike
        self._real = [self._standardise(v) for v in views]
        self._synthetic = self._standardise(radiomics(synthetic))

    def _distances(self, drawn: np.ndarray) -> np.ndarray:
        """[R, drawn] to the nearer of both views."""
        squares = [np.square(v).sum(1)[:, None] + np.square(drawn).sum(1) - 2 * v @ drawn.T for v in self._real]
        return np.sqrt(np.maximum(np.minimum(*squares), 0))

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See Space."""
        nearest, index = np.full(len(self._images), np.inf), np.zeros(len(self._images), int)
        for at in range(0, len(self._synthetic), DRAWN_AT_ONCE):
            distance = self._distances(self._synthetic[at : at + DRAWN_AT_ONCE])
            found = distance.argmin(1)
            value = distance[np.arange(len(found)), found]
            nearest, index = np.where(value < nearest, (value, found + at), (nearest, index))
        return _closeness(nearest), index.astype(int), nearest

    def planted(self, leak: str, chosen: np.ndarray) -> list[dict[int, float]]:
        """See Space."""
        copies = self._standardise(radiomics(plant(leak, self._images[chosen], self._synthetic_images, self.seed)))
        scores = _closeness(self._distances(copies))
        return [dict(enumerate(column)) for column in scores.T]


def fisher(correlation: np.ndarray) -> np.ndarray:
    """Fisher's transform, on which a gap near 1 is as wide as one near 0."""
    return np.arctanh(np.clip(correlation, -CLOSEST, CLOSEST))


def _closeness(distance: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(distance, 1e-3))


@dataclass(frozen=True)
class Search:
    """What a space found: scores of subjects, and the pairs behind them.

    Args:
        subjects: names [n]. member, compared: bool [n]; strata without members or without non-members are not compared. scores: [n]. images: row of each subject's best image [n].
        found: row of the synthetic image [n]. similarity: [n], as printed. result: the tests.
    """

    subjects: np.ndarray
    member: np.ndarray
    compared: np.ndarray
    scores: np.ndarray
    images: np.ndarray
    found: np.ndarray
    similarity: np.ndarray
    result: MemberTest

    def matches(self) -> list[Match]:
        """Members by score, the highest first."""
        others = np.sort(self.scores[~self.member & self.compared])
        order = [i for i in np.argsort(-self.scores, kind="stable") if self.member[i]][:SHOWN]
        return [Match(int(self.images[i]), int(self.found[i]), float(self.similarity[i]),
                      float(np.searchsorted(others, self.scores[i]) / len(others))) for i in order]


class Subjects:
    """Images gathered to patients.

    Args:
        subject: [R] of each real image. member: bool [R].
        level: at which its tests are read: so many permutations are drawn that they can reach it. tests: see Exchange.
    """

    def __init__(self, subject: np.ndarray, member: np.ndarray, seed: int = 0, level: float = ALPHA, tests: Sequence[str] = TESTS):
        self.names, first, self.of_image, counts = np.unique(subject, return_index=True, return_inverse=True, return_counts=True)
        self.member, self.images = member[first], counts
        fewest = math.ceil(2 * len(TESTS) / level)  # a smallest p of half the level
        self.exchange = Exchange(self.member, counts, max(1999, fewest), seed, tests)
        self._quick = Exchange(self.member, counts, max(499, fewest), seed, tests)

    def gather(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[R] to the highest of each subject, [n], and the row that has it."""
        order = np.lexsort((-scores, self.of_image))
        rows = order[np.searchsorted(self.of_image[order], np.arange(len(self.names)))]
        return scores[rows], rows

    @property
    def compared(self) -> np.ndarray:
        """bool [n]: subjects in strata that hold members and non-members."""
        return np.isin(np.arange(len(self.names)), self.exchange.used)

    def power(self, scores: np.ndarray, copies: list[dict[int, float]], owners: np.ndarray, patients: Sequence[int], trials: int, level: float,
              rng: np.random.Generator) -> dict[int, float]:
        """Share of trials in which so many planted copies are found at a level.

        Args:
            scores: [n] of the set as it is. copies: of each copy, see Space.planted; owners: the subject it is of. patients: numbers of copies to plant.
        """
        found = {}
        for k in patients:
            hits = 0
            for _ in range(trials):
                trial, chosen = scores.copy(), rng.choice(len(copies), k, replace=False)
                for c in chosen:
                    for image, score in copies[c].items():
                        who = self.of_image[image]
                        trial[who] = max(trial[who], score)
                label = self._quick.relabelled(owners[chosen], rng)  # a set that leaks elsewhere must not help to find these
                hits += self._quick.test(trial, label).combined <= level
            found[k] = hits / trials
        return found


def search(space: Space, subjects: Subjects) -> Search:
    """Scores and tests of all subjects."""
    by_image, found, similarity = space.best()
    scores, rows = subjects.gather(by_image)
    return Search(subjects.names, subjects.member, subjects.compared, scores, rows, found[rows], similarity[rows], subjects.exchange.test(scores))


def copy_rung(space: Space, subjects: Subjects, *, rungs: int, trials: int = 50, planted: int = 60, seed: int = 0,
              leaks: Sequence[str] = (*WITHIN, *BEYOND), pool: np.ndarray | None = None) -> tuple[Rung, Search]:
    """One space as a rung, with its self-test.

    Args:
        rungs: of the audit: the level of the self-test.
        trials: self-tests for each leak and number of patients. planted: copies that they choose from, at most.
        leaks: that are planted. pool: members that they may show; None = all.
    """
    found = search(space, subjects)
    rng = np.random.default_rng(seed)
    members = np.flatnonzero(subjects.member & subjects.compared)
    chosen = rng.permutation(members if pool is None else np.intersect1d(members, pool))[: max(planted, 2 * round(len(members) / 20))]
    image_of = np.array([rng.choice(np.flatnonzero(subjects.of_image == s)) for s in chosen])
    counts = planted_numbers(len(members), len(chosen))
    level = ALPHA / rungs
    power = {leak: subjects.power(found.scores, space.planted(leak, image_of), chosen, counts, trials, level, rng) for leak in leaks}
    return Rung(space.name, found.result.combined, reason=_said(found), gap=_gap(found), power=power, claims=space.claims, planted=counts[-1],
                facts=_facts(found)), found


def _gap(found: Search) -> str:
    left = int((found.member & ~found.compared).sum())
    return f"{left} training patients were not compared: no test patient has as many images as they" if left else ""


def planted_numbers(members: int, most: int) -> list[int]:
    """1, 2, 5 and one in twenty of the members (at least 5)."""
    return sorted({k for k in (1, 2, 5, max(5, round(members / 20))) if k <= most} or {most})


def _facts(found: Search) -> dict:
    r = found.result
    return {"members": _count(found, True), "non_members": _count(found, False), "p": r.p, "auc": round(r.auc, 4),
            "above_all_non_members": r.run, "top": [r.top, r.top_of, round(r.top_expected, 2)],
            "smallest_false_alarm_rate": round(r.smallest_rate, 5),
            "highest_member": float(found.similarity[_best(found, True)]), "highest_non_member": float(found.similarity[_best(found, False)])}


def _count(found: Search, member: bool) -> int:
    return int(((found.member == member) & found.compared).sum())


def _best(found: Search, member: bool) -> int:
    rows = np.flatnonzero((found.member == member) & found.compared)
    return int(rows[found.scores[rows].argmax()])


def _said(found: Search) -> str:
    r = found.result
    test = min(TESTS, key=r.p.__getitem__)
    return (f"{r.run} of {_count(found, True)} training patients lie above all {_count(found, False)} test patients; the nearest at "
            f"{found.similarity[_best(found, True)]:.3f}, the nearest test patient at {found.similarity[_best(found, False)]:.3f}; strongest test: {test}")


def spaces_of(sides: Sides, suffix: str, seed: int, moves: Moves) -> list[tuple[Space, np.ndarray, np.ndarray]]:
    """The spaces that these sets have, each with the rows of `sides.real` and of `sides.synthetic` that it compares."""
    real, drawn = np.arange(len(sides.real)), np.arange(len(sides.synthetic))
    spaces: list[tuple[Space, np.ndarray, np.ndarray]] = [
        (ImageSpace(f"copies/images{suffix}", sides.synthetic, sides.real, tuple(WITHIN), seed, moves), real, drawn),
        (FeatureSpace(f"copies/features{suffix}", sides.synthetic, sides.real, seed), real, drawn)]
    if sides.masks is not None:
        spaces.append((ImageSpace(f"copies/masks{suffix}", sides.masks, sides.real_masks, MOVES, seed, moves), sides.with_masks, sides.synthetic_with_masks))
    return spaces


def copy_rungs(sides: Sides, suffix: str = "", seed: int = 0, trials: int = 50, rungs: int | None = None, moves: Moves = GRID
               ) -> tuple[list[Rung], dict[str, Search]]:
    """All rungs of copies, and what each search found; facts name the pairs.

    Args:
        suffix: of the rungs' names. rungs: of the whole audit, None = these. moves: grid of the search.
    """
    spaces = spaces_of(sides, suffix, seed, moves)
    twins = identical(sides)
    made, searches = [], {}
    for space, real, drawn in spaces:
        try:
            subjects = Subjects(sides.subjects[real], sides.member[real], seed, ALPHA / (rungs or len(spaces)))
        except InputError as e:
            made.append(Rung(space.name, reason=f"{e.found}; needs {e.expected}"))
            continue
        rung, found = copy_rung(space, subjects, rungs=rungs or len(spaces), trials=trials, seed=seed)
        matches = [_named(sides, m, real, drawn) for m in found.matches()]
        rung, searches[rung.name] = replace(rung, facts={**rung.facts, "matches": matches}), found
        lacking = {"synthetic": len(sides.synthetic) - len(drawn), "training": int(sides.member.sum() - sides.member[real].sum())}
        said = [f"{number} {whose} images without a mask of every layer were not looked at" for whose, number in lacking.items() if number]
        rung = replace(rung, gap="; ".join(filter(None, (rung.gap, *said))))
        made.append(rung)
    if twins:
        made[0] = replace(made[0], certain=f"{len(twins)} synthetic images are pixel by pixel a real one ({', '.join(twins[:3])} ...)")
    if sides.masks is None:
        made.append(Rung(f"copies/masks{suffix}", reason="the set or the real images have no masks"))
    return made, searches


def identical(sides: Sides) -> list[str]:
    """Files of synthetic images whose pixels are those of a real one at the size that is compared."""
    known = {image.numpy().tobytes() for image in sides.real}
    return [_file(sides.drawn, i) for i, image in enumerate(sides.synthetic) if image.numpy().tobytes() in known]


def _named(sides: Sides, match: Match, real: np.ndarray, drawn: np.ndarray) -> dict:
    row, made = int(real[match.real]), int(drawn[match.synthetic])
    return {"subject": str(sides.subjects[row]), "real": _file(sides.rows, row), "synthetic": _file(sides.drawn, made), "real_row": row,
            "synthetic_row": made, "similarity": round(match.similarity, 4), "above_non_members": round(match.above, 4)}


def _file(manifest: Manifest, row: int) -> str:
    return manifest[row].channels[0].name
