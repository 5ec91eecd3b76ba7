"""The patient behind a phantom: sex and age, jaw, teeth with their treatment, and findings; no pixels.

Every part has its own random stream, keyed by (seed, subject, part): the same patient drawn with and without a
finding differs in that finding alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from synthrad.data import phantom_shapes as shapes

FINDINGS = ("caries", "deep_caries", "periapical_lesion", "impacted")
PREVALENCE = (0.45, 0.18, 0.08, 0.06)
SEXES = ("female", "male")
FDI = tuple(f"{quadrant}{i}" for quadrant in (1, 2, 3, 4) for i in range(1, 9))
AGE_BANDS = ((30, "16-29"), (45, "30-44"), (60, "45-59"), (200, "60+"))
MEAN_AGE, AGE_SPREAD, AGE_RANGE = 42.0, 16.0, (16, 88)
# Correlation of the normal scores behind the four findings and age: untreated decay clusters and is followed by
# lesions at the apex; impacted teeth are found, and taken out, in the young.
CORRELATION = np.array(
    [
        [1.00, 0.50, 0.30, 0.00, 0.05],
        [0.50, 1.00, 0.45, 0.00, 0.10],
        [0.30, 0.45, 1.00, 0.00, 0.20],
        [0.00, 0.00, 0.00, 1.00, -0.45],
        [0.05, 0.10, 0.20, -0.45, 1.00],
    ]
)
_ROOT_OF_CORRELATION = np.linalg.cholesky(CORRELATION)
_SCORES = (
    0.12566134685507402,
    0.9153650878428142,
    1.4050715603096329,
    1.5547735945968535,
)  # norm.isf(PREVALENCE)
PERSON, JAW, TEETH, LESIONS = range(4)  # streams


@dataclass(frozen=True)
class Person:
    """sex in SEXES, age in years, labels of FINDINGS."""

    sex: str
    age: int
    labels: tuple[int, ...]

    @property
    def age_band(self) -> str:
        """One of AGE_BANDS."""
        return next(name for limit, name in AGE_BANDS if self.age < limit)


@dataclass(frozen=True)
class Jaw:
    """width: factor on x; angle: > 0 more obtuse; curve: rise of the bite line at x = 1; bone_loss in units of the crest."""

    width: float
    angle: float
    curve: float
    bone_loss: float
    density: float
    wear: float
    asymmetry: float


@dataclass(frozen=True)
class Tooth:
    """One place of the arch.

    Args:
        fdi: FDI number; kind: key of shapes.OUTLINES; state: sound, filled, crowned, root_filled, implant, missing, impacted.
        neck: (x, y) of the neck; axis: unit vector from neck to chewing surface; half_width, crown, root in units.
        pulp: width factor; detail: 4 uniform numbers for whatever the state needs.
    """

    fdi: str
    kind: str
    state: str
    neck: tuple[float, float]
    axis: tuple[float, float]
    half_width: float
    crown: float
    root: float
    pulp: float
    detail: tuple[float, ...]

    def place(self, local: np.ndarray) -> np.ndarray:
        """Points of the tooth's frame [N, 2] in units of the picture."""
        ax, ay = self.axis
        along = local[:, 1] * np.where(local[:, 1] > 0, self.crown, self.root)
        across = local[:, 0] * self.half_width
        out = np.empty_like(local)
        out[:, 0] = self.neck[0] + along * ax - across * ay
        out[:, 1] = self.neck[1] + along * ay + across * ax
        return out


@dataclass(frozen=True)
class Lesion:
    """A finding at a tooth: polygon [N, 2] in units of the picture; depth in [0, 1] scales its darkness."""

    finding: str
    fdi: str
    polygon: np.ndarray
    depth: float


@dataclass(frozen=True)
class Anatomy:
    """A patient: all that a picture of them is drawn from."""

    person: Person
    jaw: Jaw
    teeth: tuple[Tooth, ...]
    lesions: tuple[Lesion, ...]


def make_anatomy(
    seed: int,
    subject: int,
    labels: Sequence[int] | None = None,
    sex: str | None = None,
    age: int | None = None,
) -> Anatomy:
    """The patient number `subject` of `seed`; labels, sex and age are drawn where they are None."""
    person = _person(np.random.default_rng([seed, subject, PERSON]), labels, sex, age)
    jaw = _jaw(np.random.default_rng([seed, subject, JAW]), person)
    teeth = _teeth(np.random.default_rng([seed, subject, TEETH]), person, jaw)
    rng = np.random.default_rng([seed, subject, LESIONS])
    teeth = _impact(rng, teeth, person, jaw)
    return Anatomy(person, jaw, teeth, _lesions(rng, teeth, person))


def all_lesions(seed: int, subject: int, person: Person) -> Anatomy:
    """The same patient with every finding: what a biased annotator overlooks is taken from here."""
    return make_anatomy(seed, subject, (1,) * len(FINDINGS), person.sex, person.age)


def _person(
    rng: np.random.Generator, labels: Sequence[int] | None, sex: str | None, age: int | None
) -> Person:
    score = _ROOT_OF_CORRELATION @ rng.standard_normal(5)
    drawn_sex = SEXES[int(rng.random() < 0.5)]
    drawn_age = int(np.clip(round(MEAN_AGE + AGE_SPREAD * score[4]), *AGE_RANGE))
    drawn = tuple(int(s > t) for s, t in zip(score[:4], _SCORES, strict=True))
    return Person(
        sex or drawn_sex, drawn_age if age is None else int(age), drawn if labels is None else tuple(labels)
    )


def _jaw(rng: np.random.Generator, person: Person) -> Jaw:
    male, decades = person.sex == "male", (person.age - 16) / 10
    z = rng.standard_normal(7)
    return Jaw(
        width=(1.035 if male else 0.955) + 0.022 * z[0],
        angle=(-0.3 if male else 0.5) + 0.12 * decades + 0.35 * z[1],
        curve=0.14 + 0.025 * z[2],
        bone_loss=max(0.008 + 0.0055 * decades * (1 + 0.3 * z[3]) + 0.003 * z[4], 0.004),
        density=(1.04 if male else 0.98) - 0.015 * decades + 0.05 * z[5],
        wear=min(0.03 * decades, 0.25),
        asymmetry=0.012 * z[6],
    )


def _teeth(rng: np.random.Generator, person: Person, jaw: Jaw) -> tuple[Tooth, ...]:
    decades = (person.age - 16) / 10
    states = _states(rng, decades)
    jitter = rng.standard_normal((32, 3))
    detail = rng.random((32, 4))
    mm = shapes.UNITS_PER_MM * jaw.width
    teeth = []
    for k, fdi in enumerate(FDI):
        upper, i, left = fdi[0] in "12", int(fdi[1]) - 1, fdi[0] in "23"
        sizes = shapes.UPPER_MM if upper else shapes.LOWER_MM
        x = (
            (sizes[:i, 0].sum() + sizes[i, 0] / 2) * mm * (1 if left else -1)
            + jaw.asymmetry
            + 0.002 * jitter[k, 0]
        )
        crown = sizes[i, 1] * shapes.UNITS_PER_MM * (1 - jaw.wear)
        root = sizes[i, 2] * shapes.UNITS_PER_MM * (1 + 0.05 * jitter[k, 1])
        lean = 0.3 * x if upper else -0.38 * x
        lean += 0.035 * jitter[k, 2]
        if i == 7:
            lean += (-0.12 if left else 0.12) * (1 if not upper else -1)
        down = 1.0 if upper else -1.0
        axis = (np.sin(lean), np.cos(lean) * down)
        bite = bite_line(x, jaw) - down * 0.008
        neck = (x - crown * axis[0], bite - crown * axis[1])
        teeth.append(
            Tooth(
                fdi,
                shapes.KINDS[i],
                states[k],
                neck,
                axis,
                sizes[i, 0] * mm / 2 * 0.99,
                crown,
                root,
                float(np.clip(1.15 - 0.1 * decades, 0.45, 1.15)),
                tuple(detail[k]),
            )
        )
    return tuple(teeth)


def bite_line(x: float | np.ndarray, jaw: Jaw) -> float | np.ndarray:
    """Height of the chewing plane: the smile of a panoramic picture."""
    return 0.545 - jaw.curve * np.abs(x) ** 1.8


def _states(rng: np.random.Generator, decades: float) -> list[str]:
    """Missing, filled, crowned ... by age; at least 16 teeth stay, at least 8 of them without metal."""
    states = ["sound"] * 32
    third = [k for k in range(32) if k % 8 == 7]
    other = [k for k in range(32) if k % 8 != 7]
    weight = np.array([0.3, 0.3, 0.2, 0.8, 1.0, 2.0, 1.6] * 4)
    weight /= weight.sum()
    absent = rng.random(4) < min(0.35 + 0.07 * decades, 0.8)
    for k, gone in zip(third, absent, strict=True):
        states[k] = "missing" if gone else "sound"
    lost = min(int(rng.poisson(0.12 + 0.32 * decades * rng.gamma(1.5, 0.5))), 10)
    order = [int(k) for k in rng.choice(other, len(other), replace=False, p=weight)]
    for k in order[:lost]:
        states[k] = "implant" if rng.random() < 0.25 else "missing"
    treated = min(int(rng.poisson(0.4 + 1.15 * decades)), len(order) - lost - 9)
    for k in order[lost : lost + treated]:
        states[k] = str(rng.choice(["filled", "crowned", "root_filled"], p=[0.66, 0.16, 0.18]))
    return states


def _impact(
    rng: np.random.Generator, teeth: tuple[Tooth, ...], person: Person, jaw: Jaw
) -> tuple[Tooth, ...]:
    """Turn one to three third molars over, deep in the bone, where the label says so."""
    wanted = 1 + int(rng.random() < 0.45) + int(rng.random() < 0.15)
    places = rng.choice(["18", "28", "38", "48"], 4, replace=False, p=[0.12, 0.12, 0.38, 0.38])[:wanted]
    turns = rng.uniform(0.75, 1.6, 4)
    if not person.labels[3]:
        return teeth
    out = []
    for t in teeth:
        if t.fdi in places:
            upper, side = t.fdi in ("18", "28"), 1.0 if t.fdi in ("28", "38") else -1.0
            turn = turns[int(t.fdi[0]) - 1] * (0.5 if upper else 1.0)
            down = 1.0 if upper else -1.0
            axis = (-side * np.sin(turn), np.cos(turn) * down)
            x = side * (0.58 if upper else 0.615) * jaw.width
            middle_y = bite_line(abs(x), jaw) - down * (0.15 if upper else 0.12)
            neck = (x - 0.02 * axis[0], middle_y + 0.02 * axis[1])
            t = replace(t, state="impacted", axis=axis, neck=neck, root=t.root * 0.8)
        out.append(t)
    return tuple(out)


def _lesions(rng: np.random.Generator, teeth: tuple[Tooth, ...], person: Person) -> tuple[Lesion, ...]:
    """Findings on teeth of their own; all random numbers are drawn whether a finding is wanted or not."""
    standing = [t for t in teeth if t.state not in ("missing", "implant", "impacted") and t.fdi[1] != "8"]
    bare = [t for t in standing if t.state == "sound"]
    favour = {"incisor": 0.5, "canine": 0.5, "premolar": 1.2, "molar": 2.6}
    narrow = [0.15 if t.fdi in ("31", "32", "41", "42") else favour[t.kind] for t in bare]
    order = rng.choice(len(bare), len(bare), replace=False, p=np.array(narrow) / sum(narrow))
    many = 1 + min(int(rng.geometric(0.5)) - 1, 3), 1 + int(rng.random() < 0.3), 1 + int(rng.random() < 0.25)
    numbers = rng.random((16, 9))
    chosen = [bare[int(k)] for k in order]
    deep, shallow = chosen[: many[1]], chosen[many[1] : many[1] + many[0]]
    taken = {t.fdi for t in deep + shallow}
    free = [t for t in standing if t.fdi not in taken]
    apical = [free[int(k)] for k in rng.permutation(len(free))[: many[2]]]
    out: list[Lesion] = []
    for finding, group, make, first in (
        ("periapical_lesion", apical, _periapical, 0),
        ("deep_caries", deep, _deep, 4),
        ("caries", shallow, _caries, 8),
    ):
        if person.labels[FINDINGS.index(finding)]:
            out += [make(t, numbers[first + i]) for i, t in enumerate(group)]
    return tuple(out)


def _caries(t: Tooth, r: np.ndarray) -> Lesion:
    """A half-round decay from a contact surface, or a cup in the chewing surface, within the enamel and outer dentine."""
    wobble = (r[:4] - 0.5) * 0.25
    if r[4] < 0.75:
        local = shapes.blob(
            (1.0 if r[5] < 0.5 else -1.0, 0.42 + 0.2 * r[6]), (0.72 + 0.25 * r[7], 0.3 + 0.12 * r[8]), wobble
        )
    else:
        local = shapes.blob((0.5 * r[5] - 0.25, 1.0), (0.55 + 0.15 * r[7], 0.42 + 0.15 * r[8]), wobble)
    inside = np.stack([np.clip(local[:, 0], -0.97, 0.97), np.clip(local[:, 1], 0.02, 0.93)], axis=1)
    return Lesion("caries", t.fdi, t.place(inside), 0.85 + 0.25 * r[6])


def _deep(t: Tooth, r: np.ndarray) -> Lesion:
    """A cavity that has taken much of one side of the crown and reaches the pulp chamber."""
    side = 1.0 if r[5] < 0.5 else -1.0
    local = shapes.blob((side * 0.55, 0.72), (0.85 + 0.2 * r[6], 0.52 + 0.12 * r[7]), (r[:4] - 0.5) * 0.3)
    inside = np.stack([np.clip(local[:, 0], -1.0, 1.0), np.clip(local[:, 1], 0.05, 0.98)], axis=1)
    return Lesion("deep_caries", t.fdi, t.place(inside), 1.0 + 0.25 * r[8])


def _periapical(t: Tooth, r: np.ndarray) -> Lesion:
    """A rounded loss of bone around the tip of a root."""
    side = (1.0 if r[5] < 0.5 else -1.0) * (0.5 if t.kind == "molar" else 0.0)
    tip = t.place(np.array([[side, -1.02]]))[0]
    radius = (3.3 + 2.4 * r[6]) * shapes.UNITS_PER_MM
    polygon = shapes.blob((tip[0], tip[1]), (radius, radius * (0.85 + 0.3 * r[7])), (r[:4] - 0.5) * 0.18)
    return Lesion("periapical_lesion", t.fdi, polygon, 0.9 + 0.25 * r[8])
