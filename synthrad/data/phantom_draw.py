"""One phantom: image, masks, labels and attributes, from (seed, index) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from synthrad.data.phantom_anatomy import AGE_RANGE, FDI, FINDINGS, SEXES, Anatomy, all_lesions, make_anatomy
from synthrad.data.phantom_render import Style, render
from synthrad.errors import InputError

ToothClasses = Literal["binary", "fdi"]
ATTRIBUTES = ("sex", "age", "age_band")
SEEDS = 2**32  # seeds of real phantoms are below; those of dialled synthetic sets are moved above
EXPOSURE, PAIRS = 10, 11  # random streams beside those of phantom_anatomy
SMALLEST = (32, 32)


@dataclass(frozen=True)
class Phantom:
    """A drawn patient.

    Args:
        image: uint8 [h, w].
        masks: layer -> uint8 [h, w]; 0 background, k structure k - 1 of `layers(tooth_classes)`.
        labels: 0 or 1 in the order of FINDINGS.
        attributes: sex, age in years, age_band.
        subject: number of the patient within the seed.
        anatomy: what it was drawn from.
    """

    image: np.ndarray
    masks: dict[str, np.ndarray]
    labels: tuple[int, ...]
    attributes: dict[str, str]
    subject: int
    anatomy: Anatomy


def layers(tooth_classes: ToothClasses = "binary") -> dict[str, tuple[str, ...]]:
    """Mask layers and their structures: `tooth` as one structure or as 32 FDI numbers, and `abnormality`."""
    return {"tooth": FDI if tooth_classes == "fdi" else ("tooth",), "abnormality": FINDINGS}


def subject_of(seed: int, index: int, images_per_subject: float = 1.0) -> int:
    """The patient of image `index`: images 2j and 2j + 1 share one with the probability that gives the mean asked for.

    Args:
        images_per_subject: mean, from 1 (all different) to 2 (all in pairs).
    """
    if not 1.0 <= images_per_subject <= 2.0:
        raise InputError("--images-per-subject", str(images_per_subject), "a mean from 1 to 2")
    shared = np.random.default_rng([seed, index // 2, PAIRS]).random() < 2 - 2 / images_per_subject
    return index - 1 if index % 2 and shared else index


def draw_phantom(
    seed: int,
    index: int,
    size: tuple[int, int],
    labels: Sequence[int] | None = None,
    sex: str | None = None,
    age: int | None = None,
    *,
    subject: int | None = None,
    tooth_classes: ToothClasses = "binary",
    style: Style | None = None,
    overlook: bool = False,
) -> Phantom:
    """Draw image `index` of `seed`; the same arguments give the same bytes.

    Args:
        seed, index: two numbers >= 0; all randomness comes from them.
        size: (height, width), at least 32 x 32; 2:1 is the true aspect, others are squeezed.
        labels: FINDINGS to draw (0 or 1 each); None = drawn with their prevalence and correlation.
        sex: female or male; age: in years, 16 to 88; None = drawn.
        subject: patient whose anatomy is drawn (default: index); pose and noise always belong to the image.
        tooth_classes: binary = one structure, fdi = 32.
        style: what a dialled set does to the appearance.
        overlook: also draw, without mask or label, the findings that `labels` denies (but no impacted tooth).

    Raises:
        InputError: a size too small, an unknown sex, an age of no grown jaw, labels of another number.
    """
    _check(seed, size, labels, sex, age)
    patient = index if subject is None else subject
    anatomy = make_anatomy(seed, patient, labels, sex, age)
    person = anatomy.person
    overlooked = []
    if overlook:
        every = all_lesions(seed, patient, person).lesions
        overlooked = [x for x in every if not person.labels[FINDINGS.index(x.finding)]]
    rng = np.random.default_rng([seed, index, EXPOSURE])
    image, teeth, findings = render(anatomy, size, rng, style or Style(), overlooked)
    masks = {
        "tooth": teeth if tooth_classes == "fdi" else (teeth > 0).astype(np.uint8),
        "abnormality": findings,
    }
    attributes = {"sex": person.sex, "age": str(person.age), "age_band": person.age_band}
    return Phantom(image, masks, person.labels, attributes, patient, anatomy)


def _check(seed: int, size: tuple[int, int], labels: Sequence[int] | None, sex: str | None, age: int | None) -> None:
    if seed < 0:
        raise InputError("--seed", str(seed), "a number >= 0")
    if size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        raise InputError("--size", f"{size[0]} {size[1]}", "a height and a width of at least 32 pixels")
    if sex is not None and sex not in SEXES:
        raise InputError("sex", repr(sex), f"one of {', '.join(SEXES)}")
    if age is not None and not AGE_RANGE[0] <= age <= AGE_RANGE[1]:
        raise InputError("age", str(age), f"{AGE_RANGE[0]} to {AGE_RANGE[1]} years: a phantom has a grown jaw")
    if labels is not None and (len(labels) != len(FINDINGS) or not set(labels) <= {0, 1}):
        raise InputError("labels", str(tuple(labels)), f"0 or 1 for each of {', '.join(FINDINGS)}")
