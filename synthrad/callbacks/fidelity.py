"""Fidelity: how far samples are from real validation images, and whether they have collapsed, while a generator trains.

Each distance stands beside its null: real training images in the place of the samples.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import lightning as L
import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor, nn

from synthrad.callbacks.checks import STYLE, Checks, short
from synthrad.errors import InputError
from synthrad.metrics.features import RadiomicsFeatures, Standardizer, structure
from synthrad.metrics.fidelity import (
    KernelDistance,
    Projection,
    by_turns,
    frechet_columns,
    frechet_distance,
    kernel_distance,
    variety,
)

FEW_SUBJECTS = 20  # below it a standard error over subjects is itself a guess
LEAST_SUBJECTS = 3  # below it there is none
FITTED_IMAGES = 2000  # training images that scale the features, at most
SHARED_RESAMPLES = 0  # seed of kid_draws: the same subjects in draw b of every check, so that checks can be compared


@dataclass(frozen=True)
class RealSide:
    """What stays the same from check to check: standardised features of real images, and the nulls.

    Args:
        standardise: fitted on training images that are in neither side of a distance.
        held: [v, d], images that samples are compared with; held_subjects: [v].
        null: [t, d], training images that take the samples' place; null_subjects: [t].
        fitted: [f, d], the images of `standardise`; fitted_subjects: [f].
        structures: [t + f, d'], metrics.features.structure of the null's images, then of `fitted`'s.
        reference: "validation", or "training" where the manifest has too few validation subjects.
    """

    standardise: Standardizer
    held: np.ndarray
    held_subjects: np.ndarray
    null: np.ndarray
    null_subjects: np.ndarray
    fitted: np.ndarray
    fitted_subjects: np.ndarray
    structures: np.ndarray
    reference: str

    @cached_property
    def null_kid(self) -> KernelDistance:
        """Real against real: what a generator without any fault would be measured at."""
        return kernel_distance(self.null, self.held, self.null_subjects, self.held_subjects)

    def compare(self, samples: np.ndarray, structures: np.ndarray, draws: int) -> dict[str, Any]:
        """All numbers of a check for the samples' standardised features [g, d] and structures [g, d']."""
        kid, null = kernel_distance(samples, self.held, None, self.held_subjects), self.null_kid
        real = np.concatenate([self.null, self.fitted])
        who = np.concatenate([self.null_subjects, self.fitted_subjects])
        kinds, anatomies = variety(samples, real, who), variety(structures, self.structures, who)
        resampled = [short(v, 6) for v in kid.resampled(draws, SHARED_RESAMPLES)]
        return {
            "reference": self.reference, "reference_images": len(self.held), "reference_subjects": kid.subjects[1],
            "generated": len(samples), "columns": self.held.shape[1], **_kid_fields("", kid), **_kid_fields("null_", null),
            "null_images": len(self.null), "null_subjects": null.subjects[0], **self._frechet(samples),
            "variety": short(kinds.ratio), "nearest_ratio": short(kinds.nearest), "spread_ratio": short(kinds.spread),
            "structure_variety": short(anatomies.ratio), "variety_images": kinds.images, "kid_draws": resampled,
        }

    def _frechet(self, samples: np.ndarray) -> dict[str, Any]:
        """Samples and null against the held-out images, all with equal n, in as many columns as n can bear."""
        n = min(len(samples), len(self.held), len(self.null))
        columns = frechet_columns(n, self.held.shape[1])
        sides = [samples[:n], self.null[:n], self.held[:n]]
        if 0 < columns < self.held.shape[1]:
            projection = Projection.fit(self.fitted, columns)
            columns, sides = projection.axes.shape[1], [projection(s) for s in sides]
        values = (frechet_distance(s, sides[2]) if columns else float("nan") for s in sides[:2])
        value, null = map(short, values)
        return {"frechet": value, "null_frechet": null, "frechet_images": n, "frechet_columns": columns}


def _kid_fields(prefix: str, kid: KernelDistance) -> dict[str, float | None]:
    values = {"kid": kid.value, "kid_se": kid.error, "kid_low": kid.low, "kid_high": kid.high}
    return {prefix + k: short(v) for k, v in values.items()}


class Fidelity(Checks):
    """Compare samples with real validation images every so many images and at the end of the fit.

    Needs a generator with `sample(condition, seeds)` and `images_seen`, and a datamodule with `held_out(number)`,
    `conditions(rows)`, `case(row)` and the manifest `train`.

    A line of `<log_dir>/fidelity.jsonl` holds images (seen), step, seconds (of training, without checks), s_per_kimg (since
    the line before), the distances of metrics.fidelity with their nulls, variety of the features and structure_variety (of
    metrics.features.structure) with `collapsed`, and kid_draws: the KID over bootstrap samples of the subjects, the same ones
    in every line, so that two lines can be compared draw by draw.

    Args:
        every_images, seed, block: see Checks.
        number: samples, and at most as many real images on each side. Collapse to k modes shows from 2 k images on.
        collapse_below: warn where either variety of samples (metrics.fidelity.variety; 1 = as varied as real images) is below it.
        collapse_after: images before which there is no warning: an untrained generator may draw nearly the same everywhere.
        draws: length of kid_draws.
        features: images [n, C, H, W] in [-1, 1] to [n, d]; None = metrics.features.RadiomicsFeatures.
    """

    name = "fidelity"
    shown = ("kid", "null_kid", "frechet", "null_frechet", "variety", "structure_variety", "s_per_kimg")
    data_needs = ("held_out", *Checks.data_needs)

    def __init__(self, every_images: int = 10_000, number: int = 500, seed: int = 0, collapse_below: float = 0.6,
                 collapse_after: int = 1000, block: int = 32, draws: int = 200, features: nn.Module | None = None):
        super().__init__(every_images, number, seed, block)
        if draws < 1:
            raise InputError("Fidelity: draws", str(draws), "at least 1")
        self.collapse_below, self.collapse_after = collapse_below, collapse_after
        self.draws, self.features = draws, features
        self.real: RealSide | None = None  # on the first process
        self._mark = (0, 0.0)

    def prepare(self, trainer: L.Trainer, pl_module: L.LightningModule) -> bool:
        """Read the real images."""
        self.real = self._read_real(trainer.datamodule, pl_module.device)
        self._mark = (pl_module.images_seen, self.trained_seconds)
        return self.real is not None

    def measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Draw, compare, and warn of collapse."""
        seen, (before, then), now = pl_module.images_seen, self._mark, self.trained_seconds
        self._mark = (seen, now)
        blocks = [(self._features_of(drawn.image), structure(drawn.image.float()).cpu())
                  for _, drawn in self.samples(trainer.datamodule, pl_module)]
        features, structures = map(torch.cat, zip(*blocks, strict=True))
        found = self.real.compare(self.real.standardise(features), structures.numpy(), self.draws)
        low = {what: found[key] for what, key in (("texture", "variety"), ("structure", "structure_variety"))
               if found[key] is not None and found[key] < self.collapse_below}
        found["collapsed"] = bool(low) and seen >= self.collapse_after
        if found["collapsed"]:
            said = " and ".join(f"that of their {what} is {value:.2f}" for what, value in low.items())
            warnings.warn(
                f"Fidelity: collapse after {seen:,} images: where the variety of real images is 1, of {found['variety_images']} samples "
                f"{said} (below {self.collapse_below}): many nearly repeat another one. Look at the newest grid; go back to an earlier "
                "checkpoint, raise r1_gamma or the augmentation, or let conditions enter later (condition_ramp).", stacklevel=2)
        return {"seconds": short(now), "s_per_kimg": short((now - then) / (seen - before) * 1000) if seen > before else None,
                "features": type(self.features).__name__, "seed": self.seed, **found}

    def picture(self, lines: Sequence[dict[str, Any]]) -> bytes:
        """The curve."""
        return draw_curve(lines, self.collapse_below)

    def _features_of(self, images: Tensor) -> Tensor:
        return self.features(images.float()).detach().flatten(1).cpu()

    # ---- real images

    def _read_real(self, data: Any, device: torch.device) -> RealSide | None:
        """Features of the real images; None, with a warning, where there are too few subjects for any comparison.

        Training subjects are split: one part is the null, one scales the features and, where there are too few
        validation subjects, one stands for these.
        """
        subjects = np.asarray(data.train.column("subject"))
        held, held_subjects = data.held_out(self.number)
        short = len(set(held_subjects)) < LEAST_SUBJECTS
        rows = _parts(subjects, 3 if short else 2, self.seed)
        if any(len(set(subjects[r])) < LEAST_SUBJECTS for r in rows):
            warnings.warn(f"Fidelity: {len(set(subjects))} training subjects are too few to compare with; nothing is computed",
                          stacklevel=2)
            return None
        if short:
            warnings.warn(
                f"Fidelity: {len(set(held_subjects))} validation subjects (at least {LEAST_SUBJECTS} needed): samples are "
                "compared with TRAINING images, and a generator that repeats those would look best. Repair: prepare the "
                "dataset with a validation split.", stacklevel=2)
        elif len(set(held_subjects)) < FEW_SUBJECTS:
            warnings.warn(f"Fidelity: only {len(set(held_subjects))} validation subjects: KID and its standard error are rough "
                          f"below {FEW_SUBJECTS}", stacklevel=2)
        if self.features is None:
            self.features = RadiomicsFeatures(held.shape[1])
        self.features.to(device).eval()
        training = lambda r: self._training_features(data, r, device)  # noqa: E731
        fitted_rows, null_rows = rows[0][:FITTED_IMAGES], rows[1][: self.number]
        fitted, fitted_structures = training(fitted_rows)
        null, null_structures = training(null_rows)
        standardise = Standardizer.fit(fitted)
        if short:
            held_rows = rows[2][: self.number]
            theirs, held_subjects = training(held_rows)[0], subjects[held_rows]
        else:
            theirs = torch.cat([self._features_of(part.to(device)) for part in held.split(self.block)])
        return RealSide(standardise, standardise(theirs), np.asarray(held_subjects), standardise(null),
                        subjects[null_rows], standardise(fitted), subjects[fitted_rows],
                        torch.cat([null_structures, fitted_structures]).numpy(), "training" if short else "validation")

    def _training_features(self, data: Any, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Features and structures of training images."""
        blocks = [torch.stack([data.case(int(i)).image for i in rows[at : at + self.block]]) for at in range(0, len(rows), self.block)]
        return torch.cat([self._features_of(b.to(device)) for b in blocks]), torch.cat([structure(b) for b in blocks])


def _parts(subjects: np.ndarray, parts: int, seed: int) -> list[np.ndarray]:
    """Rows of so many disjoint groups of subjects, each in an order that takes turns of its subjects."""
    names = np.random.default_rng(seed).permutation(np.unique(subjects))
    order = by_turns(subjects, seed)
    return [order[np.isin(subjects[order], names[k::parts])] for k in range(parts)]


def draw_curve(lines: Sequence[Mapping[str, Any]], collapse_below: float) -> bytes:
    """PNG of KID against images seen, with 95 % band and null, above the variety of the samples.

    Args:
        lines: of a fidelity.jsonl. collapse_below: where the variety is marked.
    """
    images = np.array([x["images"] for x in lines]) / 1000
    numbers = lambda key: np.array([np.nan if x[key] is None else x[key] for x in lines], float)  # noqa: E731
    null, error = numbers("null_kid"), numbers("null_kid_se")
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 5.2), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
        place = lines[-1]["reference"]
        top.fill_between(images, null - 1.96 * error, null + 1.96 * error, color="#009e73", alpha=0.15, linewidth=0)
        top.plot(images, null, "--", color="#009e73", label=f"null: real training against real {place} images")
        top.fill_between(images, numbers("kid_low"), numbers("kid_high"), color="#0072b2", alpha=0.2, linewidth=0)
        top.plot(images, numbers("kid"), "o-", color="#0072b2", markersize=4, label=f"samples against real {place} images")
        linear = 10 ** math.ceil(math.log10(max(float(np.nanmax(np.abs(null) + 1.96 * error)), 1e-6)))
        top.set_yscale("symlog", linthresh=linear)  # logarithmic beyond the null's band; KID can be negative
        top.set_ylabel(f"KID, {lines[-1]['features']}")
        top.legend(frameon=False, fontsize=8)
        top.set_title("Distance to real images (bands: 95 % over subjects)", loc="left", fontsize=10)
        bottom.axhline(1, color="#009e73", linestyle="--")
        bottom.axhline(collapse_below, color="#d55e00", linestyle=":", label=f"collapse: below {collapse_below:g}")
        bottom.plot(images, numbers("variety"), "o-", color="#0072b2", markersize=4, label="texture and grey levels")
        if any("structure_variety" in x for x in lines):  # lines of older versions lack it
            known = np.array([x.get("structure_variety") for x in lines], float)
            bottom.plot(images, known, "s-", color="#cc79a7", markersize=4, label="structure")
        bottom.set(ylabel="variety, real = 1", xlabel="images seen, in thousands", ylim=(0, None))
        bottom.legend(frameon=False, fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
