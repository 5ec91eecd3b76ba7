"""Synthetic sets whose true effect is known, to find out whether a study calls them what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy.ndimage import gaussian_filter

from synthrad.data.images import image_size, read_image, read_mask
from synthrad.data.phantom_anatomy import FINDINGS
from synthrad.data.phantom_draw import ATTRIBUTES, SEEDS, Phantom, ToothClasses, draw_phantom, layers
from synthrad.data.phantom_files import PhantomFolder
from synthrad.data.phantom_render import Style
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key
from synthrad.progress import progress
from synthrad.records import Manifest

Effect = Literal["good", "biased", "label_noise", "useless", "copies"]
Conditions = Literal["real", "uniform"]
EFFECTS: tuple[Effect, ...] = get_args(Effect)
# a reader of pictures who marks a tooth's width away, and of findings what is bright, not what is dark
BIASED = Style(lesions=-1.0, mask_shift=(0.11, 0.08))
OTHERS = 10_000_000  # index of the patient whose masks a spoilt image gets, from its own
CHOICE, PIXELS = 20, 21  # random streams: which conditions; what is done to image k


def draw_dialled(
    real: Manifest,
    out: Path | str,
    number: int,
    effect: Effect,
    seed: int,
    conditions: Conditions = "real",
    *,
    rate: float = 0.4,
) -> Manifest:
    """Write a "synthetic" set with a dialled effect.

    good = fresh phantoms as good as real ones; biased = all masks moved, findings drawn bright, dark findings drawn but not
    marked; label_noise = in a share of images labels and masks belong to another patient than the picture; useless = smooth noise with the labels and masks of a phantom; copies = training images of `real`
    again, grey values changed by about 1 % and one level at most.

    Args:
        real: a phantom manifest (copies: any manifest); only its training rows are looked at.
        out: folder to make. number: images. seed: below 2^32.
        conditions: real = label combinations as often as in training; uniform = every observed one equally often.
        rate: share of spoilt images (label_noise alone).

    Returns:
        The manifest: source synthetic, split train, subjects synthetic-000000 ..., labels as asked for, origin:row the
        digest of the training row whose labels and attributes were asked for, origin:content what the picture shows.

    Raises:
        InputError: `real` has no training row or is not a phantom set, `out` is its folder, or a value out of range.
    """
    train = real.where(split="train", source="real")
    _check(real, train, Path(out), number, effect, seed, conditions, rate)
    rows = _asked(train, number, seed, conditions)
    info = replace(
        real.info,
        name=f"{real.info.name}: {effect}",
        id=f"{real.info.id}-{effect}-{seed}",
        lineage=_lineage(real, train, effect, seed, conditions, rate),
    )
    size = image_size(train[0].channels[0])
    with PhantomFolder(
        out, info, number, ("seed", "index", "condition", "mask_source", "row", "content")
    ) as folder:
        for k in progress(range(number), desc=f"drawing {effect}", unit="image"):
            row = int(rows[k])
            rng = np.random.default_rng([seed, k, PIXELS])
            if effect == "copies":
                images, masks, content = _copied(train, row, rng)
            else:
                images, masks, content = _drawn(train, row, size, effect, (SEEDS + seed, k), rng, rate)
            values = _values(train, row, info, content) | {
                "subject": f"synthetic-{k:06d}",
                "origin:seed": str(seed),
                "origin:index": str(k),
                "origin:mask_source": "copied" if effect == "copies" else "drawn",
            }
            folder.add(k, images, masks, values)
        return folder.finish()


def _check(
    real: Manifest,
    train: Manifest,
    out: Path,
    number: int,
    effect: str,
    seed: int,
    conditions: str,
    rate: float,
) -> None:
    if effect not in EFFECTS:
        raise InputError("--synthetic", repr(effect), f"one of {', '.join(EFFECTS)}")
    if conditions not in get_args(Conditions):
        raise InputError("--conditions", repr(conditions), f"one of {', '.join(get_args(Conditions))}")
    if number < 1:
        raise InputError("--number", str(number), "at least 1 image")
    if not 0 <= seed < SEEDS:
        raise InputError("--seed", str(seed), "a number from 0 to 2^32 - 1")
    if not 0 <= rate <= 1:
        raise InputError("--noise-rate", str(rate), "a share from 0 to 1")
    if not len(train):
        raise InputError(
            f"--like {real.info.name}", "no real training row", "a real manifest with a train split"
        )
    if out.resolve() in {Path(p).resolve() for p in real.info.roots.values()}:
        raise InputError(str(out), "the folder of the real images", "a folder of its own", "name another OUT")
    phantom = real.info.classes == FINDINGS and dict(real.info.layers) in (layers("binary"), layers("fdi"))
    if effect != "copies" and not (phantom and set(ATTRIBUTES) <= set(real.info.attributes)):
        raise InputError(
            f"--like {real.info.name}",
            f"the classes {', '.join(real.info.classes)}",
            "a set of phantoms",
            "make one with `synthrad prepare phantom OUT`, or use --synthetic copies",
        )


def _asked(train: Manifest, number: int, seed: int, conditions: Conditions) -> np.ndarray:
    """Training row [number] whose labels and attributes each image is asked to have; a prefix is fair as well."""
    rng = np.random.default_rng([seed, CHOICE])
    if conditions == "real":
        rounds = [rng.permutation(len(train)) for _ in range(-(-number // len(train)))]
        return np.concatenate(rounds)[:number]
    _, group = np.unique(np.nan_to_num(train.labels, nan=-1), axis=0, return_inverse=True)
    members = [np.flatnonzero(group.ravel() == g) for g in range(group.max() + 1)]
    return np.array([rng.choice(members[k % len(members)]) for k in range(number)])


def _lineage(
    real: Manifest, train: Manifest, effect: str, seed: int, conditions: str, rate: float
) -> Lineage:
    fitted = Fitted("generator", origin="known", notes=f"dialled phantom: {effect}")
    if effect == "copies":
        trained_on = hash_subjects(real.info.id, train.column("subject"), project_key())
        seen = frozenset(train.column("digest")) - {""}
        fitted = replace(fitted, trained_on=trained_on, fingerprints=seen, key_id=key_id(project_key()))
    settings = {"effect": effect, "seed": seed, "conditions": conditions}
    return Lineage((fitted,), settings | ({"rate": rate} if effect == "label_noise" else {}))


def _drawn(
    train: Manifest,
    row: int,
    size: tuple[int, int],
    effect: str,
    key: tuple[int, int],
    rng: np.random.Generator,
    rate: float,
) -> tuple[dict, dict, np.ndarray]:
    """Channels, mask layers and true content of a drawn image."""
    asked = train.labels[row].astype(int)
    kind: ToothClasses = "fdi" if len(train.info.layers["tooth"]) > 1 else "binary"

    def draw(labels: np.ndarray, other: int = 0, **how: object) -> Phantom:
        sex, age = train.column("attribute:sex")[row], int(train.column("attribute:age")[row])
        labels = tuple(int(v) for v in labels)
        return draw_phantom(key[0], key[1] + other, size, labels, sex, age, tooth_classes=kind, **how)

    phantom, content = draw(asked), asked
    image, masks = phantom.image, phantom.masks
    if effect == "biased":
        seen = draw(asked, style=BIASED, overlook=True)
        image, masks = seen.image, seen.masks
    elif effect == "label_noise" and rng.random() < rate:
        others = np.flatnonzero((train.labels != asked).any(axis=1))
        content = train.labels[rng.choice(others)].astype(int) if len(others) else 1 - asked
        image, masks = draw(content).image, draw(asked, OTHERS).masks
    elif effect == "useless":
        image, content = _smooth_noise(image, rng), np.zeros_like(asked)
    return {"image": image}, masks, content


def _smooth_noise(like: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clouds with the mean and spread of an image [h, w] and a little grain: nothing to learn from."""
    h, w = like.shape
    clouds = gaussian_filter(rng.standard_normal((h, w)), (h / 12, w / 24))
    clouds = (clouds - clouds.mean()) / clouds.std() * like.std() + like.mean()
    return np.clip(np.rint(clouds + 3 * rng.standard_normal((h, w))), 0, 255).astype(np.uint8)


def _copied(train: Manifest, row: int, rng: np.random.Generator) -> tuple[dict, dict, np.ndarray]:
    record, gain = train[row], 1 + rng.uniform(-0.01, 0.01)
    images = {}
    for channel, path in zip(train.info.channels, record.channels, strict=True):
        pixels = read_image(path)
        top = np.iinfo(pixels.dtype).max
        grain = rng.integers(-1, 2, pixels.shape)
        images[channel] = np.clip(np.rint(pixels * gain + grain), 0, top).astype(pixels.dtype)
    masks = {
        layer: None if path is None else read_mask(path)
        for layer, path in zip(train.info.layers, record.masks, strict=True)
    }
    return images, masks, train.labels[row]


def _values(train: Manifest, row: int, info: DatasetInfo, content: np.ndarray) -> dict[str, object]:
    def spelt(values: np.ndarray) -> str:
        return ",".join(
            f"{c}={'' if np.isnan(v) else int(v)}" for c, v in zip(info.classes, values, strict=True)
        )

    asked = train.labels[row]
    out: dict[str, object] = {
        "split": "train",
        "source": "synthetic",
        "origin:condition": spelt(asked),
        "origin:content": spelt(content),
        "origin:row": train.column("digest")[row],
    }
    out |= {f"label:{c}": v for c, v in zip(info.classes, asked, strict=True)}
    return out | {f"attribute:{a}": train.column(f"attribute:{a}")[row] for a in info.attributes}
