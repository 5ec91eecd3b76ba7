"""Measure how often an audit cries wolf: the joint false-alarm rate of all its rungs on sets that copied nobody.

    python benchmarks/bench_alarms.py                       scores that are made up: about an hour on one core
    python benchmarks/bench_alarms.py --draws 200 --dry     a first look, no line is written
    python benchmarks/bench_alarms.py --set DRAW --patients REAL --checkpoint CKPT     scores of real patients whom nothing of a set has seen

Training and test patients of a draw come from one law, so nothing tells them apart. Scores of their images are made up, one for each rung, and from there on
everything is the audit's own code: patients and strata, permutations, the attack's AUC, guesses of attributes, all tests, Holm. Rungs share what makes
a patient's and an image's score high, as real ones do. Settings differ in the law of scores (down to heavy tails and ties), sizes, images a
patient and the number of rungs (of a set; of its whole draw as well; of weights too). With --set, scores are those of the audit's own searches, of patients of
REAL who had no part in DRAW (and in CKPT), called training or test patients at random again and again: what made them is real, but
draws share their images. Appends one JSON line a setting to benchmarks/results/alarms.jsonl and prints one line a goal: the exact upper 99 %
bound of the rate (Clopper and Pearson, as if draws were independent) is to be at most 5 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from tqdm import tqdm

from synthrad.audit.attributes import EXACT, SMOOTH, AttributeSpace, for_each_alone, joined
from synthrad.audit.copying import GRID, Subjects, spaces_of
from synthrad.audit.membership import Patients, attack
from synthrad.audit.membership_nearest import NearestSpace
from synthrad.audit.membership_pictures import masked_rows, read_pictures
from synthrad.audit.rungs import ALPHA, Rung, judge
from synthrad.audit.sides import Sides, strangers
from synthrad.data.cache import ImageCache
from synthrad.data.images import image_size
from synthrad.generators.familiarity import parts_of
from synthrad.generators.loading import load_generator
from synthrad.records import Manifest
from synthrad.statistics.exchangeability import TESTS, Exchange
from synthrad.study.report import processor

RESULTS = Path(__file__).parent / "results" / "alarms.jsonl"
MAXIMA = ("copies/images", "copies/features", "copies/masks", "membership/nearest", "re-identification")  # of a patient's images
MEANS = ("membership/loss", "membership/reconstruction", "membership/bound")  # over a patient's images: of weights

Law = Callable[[np.ndarray], np.ndarray]
Failures = list[tuple[str, tuple[str, ...]]]
uniform = stats.norm.cdf
LAWS: dict[str, Law] = {  # of scores, from standard normal numbers
    "normal": lambda z: z,
    "gumbel": lambda z: -np.log(-np.log(uniform(z))),
    "exponential": lambda z: -np.log(uniform(-z)),
    "correlation": lambda z: np.arctanh(1 - stats.gamma.ppf(uniform(-z), 4) / 16),  # Fisher's transform; what lacks to 1 is a sum of squares
    "log-normal": lambda z: np.exp(0.5 * z),
    "student-5": lambda z: stats.t.ppf(uniform(z), 5),
    "student-3": lambda z: stats.t.ppf(uniform(z), 3),
    "clumps": lambda z: z + 10 * (z > 2.3),  # one patient in a hundred is of a kind that lies far above
    "ties": lambda z: np.round(2 * z) / 2,
}


@dataclass(frozen=True)
class Setting:
    """What a clean audit looks like.

    Args:
        members, others: training and test patients. law: of scores. images: shares of patients with 1, 2, 3 ... images.
        sets: 1, or 2 with the whole draw beside what was kept. weights: whether a checkpoint is attacked. targets: labels and attribute values.
        together: share of a score's variance that all rungs have in common. rare: share of patients with the rarest of them.
    """

    members: int = 198
    others: int = 90
    law: str = "gumbel"
    images: tuple[float, ...] = (1.0,)
    sets: int = 1
    weights: bool = False
    targets: int = 3
    together: float = 0.4
    rare: float = 0.07

    @property
    def rungs(self) -> int:
        """Of the whole audit."""
        return self.sets * (len(MAXIMA) + 1) + len(MEANS) * self.weights


SETTINGS = [
    Setting(), Setting(120, 80, "exponential", (0.5, 0.3, 0.2), 2, True),  # ranks do not feel a law, `tail` and guesses do
    *(Setting(law=law) for law in ("log-normal", "student-3", "clumps", "ties", "exponential", "correlation", "normal", "student-5")),
    Setting(25, 20), Setting(targets=8), Setting(together=0.95),
]
BEYOND = ("student-3", "clumps")  # laws that the test `tail` says it does not hold for: no goal
SAME = 10  # draws in a row that share their permutations


class Nearest:
    """What AttributeSpace asks of the space that finds the nearest synthetic image."""

    def __init__(self, close: np.ndarray, index: np.ndarray):
        self._found = close, index, -close

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See audit.copying.Space."""
        return self._found


def draw(s: Setting, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Subject [R] and member [R] of each image; who is a member says nothing of how many images one has."""
    number = np.random.default_rng(seed).choice(len(s.images), s.members + s.others, p=s.images) + 1
    subject = np.repeat(np.arange(len(number)), number)
    return subject, subject < s.members


def scores(rng: np.random.Generator, s: Setting, subject: np.ndarray, common: np.ndarray) -> np.ndarray:
    """[R] of one rung."""
    own = np.sqrt(0.5) * (rng.normal(size=subject.max() + 1)[subject] + rng.normal(size=len(subject)))
    return LAWS[s.law](np.sqrt(s.together) * common + np.sqrt(1 - s.together) * own)


@lru_cache(maxsize=2)
def permuted(subject: bytes, member: bytes, seed: int, level: float, tests: tuple[str, ...], targets: int, rungs: int) -> tuple[Subjects, Exchange | None]:
    """Patients with their permutations, and those for one of so many targets alone."""
    subjects = Subjects(np.frombuffer(subject, np.int64), np.frombuffer(member, bool), seed, level, tests)
    return subjects, for_each_alone(subjects, targets, rungs, seed) if targets else None


def attributes(rng: np.random.Generator, s: Setting, subject: np.ndarray, member: np.ndarray, close: np.ndarray, seed: int) -> Rung:
    """Guesses of labels and values whose share runs from `rare` to a half; images of the set carry the same shares."""
    share = np.linspace(s.rare, 0.5, s.targets) if s.targets > 1 else np.array([s.rare])
    truth = (rng.random((subject.max() + 1, s.targets)) < share)[subject].astype(float)
    carried = (rng.random((300, s.targets)) < share).astype(float)
    expected = np.where(truth == 1, share, 1 - share)
    space = AttributeSpace("attributes", Nearest(close, rng.integers(300, size=len(close))), truth, carried, expected)
    subjects, fine = permuted(subject.tobytes(), member.tobytes(), seed, ALPHA / (2 * s.rungs), TESTS if s.targets >= SMOOTH else EXACT, s.targets, s.rungs)
    together = subjects.exchange.test(subjects.gather(space.best()[0])[0]).combined
    return Rung("attributes", joined(together, [fine.test(subjects.gather(space.of_target(k))[0]).combined for k in range(s.targets)])[0])


def audited(rng: np.random.Generator, s: Setting, seed: int) -> Failures:
    """What a clean audit of made-up scores fails."""
    subject, member = draw(s, seed)
    common = np.sqrt(0.5) * (rng.normal(size=subject.max() + 1)[subject] + rng.normal(size=len(subject)))
    subjects, _ = permuted(subject.tobytes(), member.tobytes(), seed, ALPHA / s.rungs, TESTS, 0, s.rungs)
    made, tests = [], {}
    for suffix in ("", " of the whole draw")[: s.sets]:
        for name in MAXIMA:
            score = scores(rng, s, subject, common)
            result = subjects.exchange.test(subjects.gather(score)[0])
            made.append(Rung(name + suffix, result.combined))
            tests[name + suffix] = result.p
            if name == "copies/features":
                close = score
        made.append(attributes(rng, s, subject, member, close, seed))
    for name in MEANS if s.weights else ():
        patients = Patients(subject, member, seed)
        result = attack(patients.gather(scores(rng, s, subject, common)), patients.exchange).result
        made.append(Rung(name, result.combined))
        tests[name] = result.p
    return failures(made, tests)


def failures(made: list[Rung], tests: Mapping[str, Mapping[str, float]]) -> Failures:
    """Rungs that fail, each with the tests that alone would make it fail as the first of all."""
    return [(r.name, tuple(t for t, p in tests.get(r.name, {}).items() if p * len(TESTS) * len(made) <= ALPHA)) for r in judge(made) if r.verdict == "fail"]


def measured(name: str, draw_one: Callable[[int], Failures], draws: int) -> dict:
    """Rate of alarms with its bound, and where they came from."""
    alarms, rungs, tests = 0, Counter(), Counter()
    for k in tqdm(range(draws), desc=name, leave=False, disable=None):
        failed = draw_one(k)
        alarms += bool(failed)
        rungs.update(name for name, _ in failed)
        tests.update(t for _, names in failed for t in names)
    return {"rate": alarms / draws, "upper": float(stats.beta.ppf(0.99, alarms + 1, draws - alarms)) if alarms < draws else 1.0, "draws": draws,
            "by_rung": dict(sorted(rungs.items())), "by_test": dict(sorted(tests.items()))}


def name_of(s: Setting) -> str:
    """`alarms_gumbel_198-90_6`: law, patients, rungs, and what else is not as usual."""
    usual = Setting()
    more = [f"{key}-{value}" for key in ("targets", "together") if (value := getattr(s, key)) != getattr(usual, key)]
    more += [f"images-{len(s.images)}"] if len(s.images) > 1 else []
    return "_".join(["alarms", s.law, f"{s.members}-{s.others}", f"{s.rungs}", *more])


def of_patients(drawn: Manifest, real: Manifest, checkpoint: str | None) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Scores of the searches, and of a generator's weights, of patients who had no part in them.

    Returns:
        subject of each image, rung -> [R]; subject of each image that weights are asked about, rung -> [R'].
    """
    lineage = drawn.info.lineage
    rows = real.take(np.flatnonzero((real.column("source") == "real") & strangers(lineage, real)))
    size = image_size(drawn[0].channels[0])
    read = lambda m: torch.stack([torch.from_numpy(c.scaled(i)) for c in [ImageCache(m, size)] for i in range(len(c))])  # noqa: E731
    images, synthetic, every = read(rows), read(drawn), np.arange(len(rows))
    sides = Sides(synthetic, images, None, None, every, np.arange(len(drawn)), rows, drawn, None, rows.take([]), "")
    found = {space.name: space.best()[0] for space, _, _ in spaces_of(sides, "", 0, GRID)}
    found["membership/nearest"] = NearestSpace(synthetic, images, None, 0).best()[0]
    if checkpoint is None:
        return sides.subjects, found, every, {}
    module, _, _, spec = load_generator(checkpoint)
    asked = rows.take(np.flatnonzero(masked_rows(rows, spec)))
    pictures = read_pictures(asked, spec, "cpu")
    return sides.subjects, found, np.asarray(asked.column("subject")), {f"membership/{k}": v for p in parts_of(module) for k, v in p.scores(pictures).items()}


def relabelled(rng: np.random.Generator, share: float, seed: int, subject: np.ndarray, maxima: Mapping[str, np.ndarray], of_weights: np.ndarray,
               means: Mapping[str, np.ndarray]) -> Failures:
    """What an audit fails after a share of the patients were called training patients."""
    names = np.unique(subject)
    members, rungs = names[rng.permutation(len(names)) < share * len(names)], len(maxima) + len(means)
    subjects, made = Subjects(subject, np.isin(subject, members), seed, ALPHA / rungs), {}
    for name, score in maxima.items():
        made[name] = subjects.exchange.test(subjects.gather(score)[0])
    patients = Patients(of_weights, np.isin(of_weights, members), seed) if means else None
    for name, score in means.items():
        made[name] = attack(patients.gather(score), patients.exchange).result
    return failures([Rung(name, r.combined) for name, r in made.items()], {name: r.p for name, r in made.items()})


def lines_of(args: argparse.Namespace) -> Iterator[dict]:
    """One a setting."""
    seed = 20261122
    if args.set:
        drawn, real = Manifest.read(args.set), Manifest.read(args.patients)
        subject, maxima, of_weights, means = of_patients(drawn, real, args.checkpoint)
        rng, name = np.random.default_rng(seed), f"alarms_{drawn.info.name}_{real.info.name}"
        found = measured(name, lambda k: relabelled(rng, 0.6, seed + k, subject, maxima, of_weights, means), args.draws)
        yield {"name": name, "patients": len(np.unique(subject)), "images": len(subject), "set_images": len(drawn), "rungs": [*maxima, *means], **found}
        return
    for s in (s for s in SETTINGS if not args.laws or s.law in args.laws):
        rng = np.random.default_rng(seed)
        yield {"name": name_of(s), **vars(s), "rungs": s.rungs, **measured(name_of(s), lambda k, s=s, rng=rng: audited(rng, s, seed + k // SAME), args.draws)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000, help="audits a setting (default %(default)s)")
    parser.add_argument("--laws", nargs="+", choices=LAWS, help="these alone")
    parser.add_argument("--set", metavar="DRAW", help="manifest folder of a synthetic set")
    parser.add_argument("--patients", metavar="REAL", help="with --set: manifest folder of real patients")
    parser.add_argument("--checkpoint", metavar="CKPT", help="with --set: of the set's generator")
    parser.add_argument("--dry", action="store_true", help="print, append nothing")
    args = parser.parse_args()
    if bool(args.set) != bool(args.patients) or (args.checkpoint and not args.set):
        parser.error("--set and --patients go together, and --checkpoint with them")
    for line in lines_of(args):
        goal = "beyond" if line.get("law") in BEYOND else f"<={ALPHA} {'met' if line['upper'] <= ALPHA else 'short'}"
        print(f"{line['name']} {line['rate']:.4f} upper {line['upper']:.4f} {goal} {line['by_rung']} {line['by_test']}", flush=True)
        line |= {"date": date.today().isoformat(), "numpy": version("numpy"), "scipy": version("scipy"), "torch": version("torch"), "cpu": processor()}
        if not args.dry:
            with open(RESULTS, "a") as f:
                f.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
