"""Procedural panoramic dental radiographs: data for tests, the quickstart and studies whose true effect is known.

No picture here shows a person; sizes of teeth are textbook averages, prevalence and contrast are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synthrad.data.phantom_anatomy import FDI, FINDINGS, PREVALENCE
from synthrad.data.phantom_dialled import EFFECTS, draw_dialled
from synthrad.data.phantom_draw import (
    ATTRIBUTES,
    SEEDS,
    Phantom,
    ToothClasses,
    draw_phantom,
    layers,
    subject_of,
)
from synthrad.data.phantom_files import PhantomFolder
from synthrad.data.phantom_render import Style
from synthrad.data.splits import split_by_subject
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.progress import progress
from synthrad.records import Manifest

__all__ = [
    "ATTRIBUTES",
    "EFFECTS",
    "FDI",
    "FINDINGS",
    "FRACTIONS",
    "PREVALENCE",
    "Phantom",
    "Style",
    "draw_dialled",
    "draw_phantom",
    "layers",
    "subject_of",
    "write_phantoms",
]
FRACTIONS = (0.55, 0.1, 0.1, 0.25)


def write_phantoms(
    out: Path | str,
    number: int,
    size: tuple[int, int] = (64, 128),
    seed: int = 0,
    *,
    fractions: Sequence[float] = FRACTIONS,
    images_per_subject: float = 1.25,
    tooth_classes: ToothClasses = "binary",
) -> Manifest:
    """Write a set of phantoms with their splits as a manifest folder.

    Args:
        out: folder: images/, masks/tooth/, masks/abnormality/, manifest.csv, dataset.yaml.
        number: images. size: (height, width). seed: below 2^32.
        fractions: shares of train, val, audit and test, by subject, stratified over findings.
        images_per_subject: mean, 1 to 2. tooth_classes: see `layers`.

    Raises:
        InputError: a number, seed, size or fraction out of range, or `out` holding other files.
    """
    if number < 1:
        raise InputError("--number", str(number), "at least 1 image")
    if not 0 <= seed < SEEDS:
        raise InputError("--seed", str(seed), "a number from 0 to 2^32 - 1")
    info = DatasetInfo(
        name="phantom",
        id=f"phantom-{seed}-{number}-{size[0]}x{size[1]}",
        classes=FINDINGS,
        layers=layers(tooth_classes),
        attributes=ATTRIBUTES,
        licence="drawn by synthrad; no person is shown",
    )
    patients = [subject_of(seed, k, images_per_subject) for k in range(number)]
    with PhantomFolder(out, info, number, ("seed", "index")) as folder:
        for k in progress(range(number), desc="drawing phantoms", unit="image"):
            p = draw_phantom(seed, k, size, subject=patients[k], tooth_classes=tooth_classes)
            values = {"subject": f"phantom-{p.subject:06d}", "origin:seed": str(seed), "origin:index": str(k)}
            values |= {f"label:{c}": float(v) for c, v in zip(FINDINGS, p.labels, strict=True)}
            values |= {f"attribute:{a}": v for a, v in p.attributes.items()}
            folder.add(k, {"image": p.image}, p.masks, values)
        labels = np.stack([folder.columns[f"label:{c}"] for c in FINDINGS], axis=1)
        folder.columns["split"][:] = split_by_subject(
            list(folder.columns["subject"]), labels, fractions, seed
        )
        return folder.finish()
