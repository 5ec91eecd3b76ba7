"""Fidelity: how far samples are from real validation images, and whether they have collapsed, while a generator trains.

Every check draws the same seeds under the same conditions, so that checks differ by the weights alone, and is one line of
`fidelity.jsonl`; the last one also draws `fidelity.png`. Each distance stands beside its null: real training images in the
place of the samples.
"""

from __future__ import annotations

import io
import json
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor, nn

from synthrad.errors import InputError, RunError
from synthrad.metrics.features import RadiomicsFeatures, Standardizer
from synthrad.metrics.fidelity import (
    KernelDistance,
    Projection,
    by_turns,
    frechet_columns,
    frechet_distance,
    kernel_distance,
    variety,
)
from synthrad.records import write_durably

FEW_SUBJECTS = 20  # below it a standard error over subjects is itself a guess
LEAST_SUBJECTS = 3  # below it there is none
FITTED_IMAGES = 2000  # training images that scale the features, at most
SHARED_RESAMPLES = 0  # seed of kid_draws: the same subjects in draw b of every check, so that checks can be compared
SHOWN = ("kid", "null_kid", "frechet", "null_frechet", "variety")  # in TensorBoard
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e9edf1",
         "axes.axisbelow": True}


@dataclass(frozen=True)
class RealSide:
    """What stays the same from check to check: standardised features of real images, and the nulls.

    Args:
        standardise: fitted on training images that are in neither side of a distance.
        held: [v, d], images that samples are compared with; held_subjects: [v].
        null: [t, d], training images that take the samples' place; null_subjects: [t].
        fitted: [f, d], the images of `standardise`; fitted_subjects: [f].
        reference: "validation", or "training" where the manifest has too few validation subjects.
    """

    standardise: Standardizer
    held: np.ndarray
    held_subjects: np.ndarray
    null: np.ndarray
    null_subjects: np.ndarray
    fitted: np.ndarray
    fitted_subjects: np.ndarray
    reference: str

    @cached_property
    def null_kid(self) -> KernelDistance:
        """Real against real: what a generator without any fault would be measured at."""
        return kernel_distance(self.null, self.held, self.null_subjects, self.held_subjects)

    def compare(self, samples: np.ndarray, draws: int) -> dict[str, Any]:
        """All numbers of a check for the samples' standardised features [g, d]."""
        kid, null = kernel_distance(samples, self.held, None, self.held_subjects), self.null_kid
        real = np.concatenate([self.null, self.fitted])
        kinds = variety(samples, real, np.concatenate([self.null_subjects, self.fitted_subjects]))
        resampled = [_short(v, 6) for v in kid.resampled(draws, SHARED_RESAMPLES)]
        return {
            "reference": self.reference, "reference_images": len(self.held), "reference_subjects": kid.subjects[1],
            "generated": len(samples), "columns": self.held.shape[1], **_kid_fields("", kid), **_kid_fields("null_", null),
            "null_images": len(self.null), "null_subjects": null.subjects[0], **self._frechet(samples),
            "variety": _short(kinds.ratio), "nearest_ratio": _short(kinds.nearest), "spread_ratio": _short(kinds.spread),
            "variety_images": kinds.images, "kid_draws": resampled,
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
        value, null = map(_short, values)
        return {"frechet": value, "null_frechet": null, "frechet_images": n, "frechet_columns": columns}


def _short(value: float, digits: int = 8) -> float | None:
    """A number for JSON, which knows no NaN."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _kid_fields(prefix: str, kid: KernelDistance) -> dict[str, float | None]:
    values = {"kid": kid.value, "kid_se": kid.error, "kid_low": kid.low, "kid_high": kid.high}
    return {prefix + k: _short(v) for k, v in values.items()}


class Fidelity(L.Callback):
    """Compare samples with real validation images every so many images and at the end of the fit.

    Needs a generator with `sample(condition, seeds)` and `images_seen`, and a datamodule with `held_out(number)`,
    `conditions(rows)`, `case(row)` and the manifest `train`. The first process computes; a check waits for no other one, and
    the others wait for it at their next step.

    A line of `<log_dir>/fidelity.jsonl` holds images (seen), step, seconds (of training, without checks), s_per_kimg (since
    the line before), the distances of metrics.fidelity with their nulls, variety with `collapsed`, and kid_draws: the KID
    over bootstrap samples of the subjects, the same ones in every line, so that two lines can be compared draw by draw.

    Args:
        every_images: images shown between two checks; the first comes after as many.
        number: samples, and at most as many real images on each side. Collapse to k modes shows from 2 k images on.
        seed: seeds of the samples are seed, seed + 1, ...; conditions are those of training rows in random order.
        collapse_below: warn where the variety of samples (metrics.fidelity.variety; 1 = as varied as real images) is below it.
        collapse_after: images before which there is no warning: an untrained generator may draw nearly the same everywhere.
        block: samples drawn at once.
        draws: length of kid_draws.
        features: images [n, C, H, W] in [-1, 1] to [n, d]; None = metrics.features.RadiomicsFeatures.
    """

    def __init__(self, every_images: int = 10_000, number: int = 500, seed: int = 0, collapse_below: float = 0.6,
                 collapse_after: int = 1000, block: int = 32, draws: int = 200, features: nn.Module | None = None):
        if every_images < 1 or number < 10 or block < 1:
            raise InputError("Fidelity", f"every_images {every_images}, number {number}, block {block}",
                             "every_images and block at least 1, number at least 10")
        self.every_images, self.number, self.seed = every_images, number, seed
        self.collapse_below, self.collapse_after = collapse_below, collapse_after
        self.block, self.draws, self.features = block, draws, features
        self.lines: list[str] = []
        self.checked: int | None = None  # images seen at the newest check, on every process
        self.real: RealSide | None = None  # on the first process
        self.folder = Path()  # of the log, known from the start of the fit
        self._next = every_images
        self._seconds, self._started, self._mark = 0.0, None, (0, 0.0)

    # ---- the fit

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse what cannot be compared before the first step."""
        if stage != "fit":
            return
        for thing, key, names in ((pl_module, "model", ("sample", "images_seen")),
                                  (trainer.datamodule, "data", ("held_out", "conditions", "case", "train"))):
            if missing := [n for n in names if not hasattr(thing, n)]:
                raise InputError(key, f"{type(thing).__name__} without {missing}", "a generator and its GenerationDataModule",
                                 "leave the callback Fidelity out of a fit that trains no generator")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read the real images, on the first process."""
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)  # here: to ask for it is a broadcast to all processes
        if trainer.is_global_zero:
            with _undisturbed(pl_module):
                self.real = self._read_real(trainer.datamodule, pl_module.device)
        self._started = time.monotonic()
        self._mark = (pl_module.images_seen, self._seconds)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        """Check when the next mark is passed."""
        if pl_module.images_seen >= self._next:
            self._next = (pl_module.images_seen // self.every_images + 1) * self.every_images
            self.check(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the final generator and draw the curve."""
        self.check(trainer, pl_module)
        if trainer.is_global_zero and self.lines:
            curve = draw_curve([json.loads(x) for x in self.lines], self.collapse_below)
            write_durably(self.folder / "fidelity.png", curve)

    def state_dict(self) -> dict[str, Any]:
        """The next mark, the time so far and all lines: a resumed fit may log to another folder."""
        return {"next": self._next, "seconds": self._trained(), "lines": list(self.lines)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the next mark."""
        self._next, self._seconds = int(state_dict["next"]), float(state_dict["seconds"])
        self.lines = list(state_dict["lines"])

    def _trained(self) -> float:
        """Seconds of training so far, without checks."""
        return self._seconds + (0.0 if self._started is None else time.monotonic() - self._started)

    # ---- a check

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw, compare, write and warn, on the first process, once for a number of images seen.

        Raises:
            RunError: the generator draws NaN or Inf.
        """
        seen = self.checked = pl_module.images_seen
        if self.real is None or (self.lines and json.loads(self.lines[-1])["images"] == seen):
            return
        self._seconds, self._started = self._trained(), None  # the clock of the training stands still
        begun, (before, then) = time.monotonic(), self._mark
        with _undisturbed(pl_module):
            samples = self.real.standardise(self._sample(trainer.datamodule, pl_module))
        found = self.real.compare(samples, self.draws)
        low = found["variety"] is not None and found["variety"] < self.collapse_below
        found["collapsed"] = low and seen >= self.collapse_after
        line = {
            "images": seen, "step": trainer.global_step, "seconds": _short(self._seconds),
            "s_per_kimg": _short((self._seconds - then) / (seen - before) * 1000) if seen > before else None,
            "features": type(self.features).__name__, "seed": self.seed, **found,
        }
        self._mark = (seen, self._seconds)
        self._write(trainer, line, time.monotonic() - begun)
        if line["collapsed"]:
            warnings.warn(
                f"Fidelity: collapse after {seen:,} images: the variety of {line['variety_images']} samples is "
                f"{line['variety']:.2f} of that of real images (below {self.collapse_below}): many samples nearly repeat "
                "another one. Look at the newest grid; go back to an earlier checkpoint, or raise r1_gamma or the augmentation.",
                stacklevel=2)
        self._started = time.monotonic()

    def _write(self, trainer: L.Trainer, line: dict[str, Any], seconds: float) -> None:
        draws = line.pop("kid_draws")
        self.lines.append(json.dumps({**line, "check_seconds": _short(seconds, 4), "kid_draws": draws}))
        write_durably(self.folder / "fidelity.jsonl", "".join(f"{x}\n" for x in self.lines).encode())
        for logger in trainer.loggers:
            if isinstance(logger, L.pytorch.loggers.TensorBoardLogger):
                for name in SHOWN:
                    if line[name] is not None:
                        logger.experiment.add_scalar(f"fidelity/{name}", line[name], line["images"])

    def _sample(self, data: Any, pl_module: L.LightningModule) -> Tensor:
        """Features of `number` samples, [number, d]."""
        rows = np.resize(np.random.default_rng(self.seed).permutation(len(data.train)), self.number)
        parts = []
        for start in range(0, self.number, self.block):
            chosen = [int(r) for r in rows[start : start + self.block]]
            seeds = range(self.seed + start, self.seed + start + len(chosen))
            images = pl_module.sample(data.conditions(chosen), seeds).image
            if not torch.isfinite(images).all():
                raise RunError(f"Fidelity: samples after {pl_module.images_seen:,} images hold NaN or Inf. Repair: resume from "
                               "the last checkpoint with a lower model.lr.")
            parts.append(self._features_of(images))
        return torch.cat(parts)

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
        fitted = training(fitted_rows)
        standardise = Standardizer.fit(fitted)
        if short:
            held_rows = rows[2][: self.number]
            theirs, held_subjects = training(held_rows), subjects[held_rows]
        else:
            theirs = torch.cat([self._features_of(part.to(device)) for part in held.split(self.block)])
        return RealSide(standardise, standardise(theirs), np.asarray(held_subjects), standardise(training(null_rows)),
                        subjects[null_rows], standardise(fitted), subjects[fitted_rows], "training" if short else "validation")

    def _training_features(self, data: Any, rows: np.ndarray, device: torch.device) -> Tensor:
        blocks = [rows[i : i + self.block] for i in range(0, len(rows), self.block)]
        return torch.cat([self._features_of(torch.stack([data.case(int(i)).image for i in b]).to(device)) for b in blocks])


def _parts(subjects: np.ndarray, parts: int, seed: int) -> list[np.ndarray]:
    """Rows of so many disjoint groups of subjects, each in an order that takes turns of its subjects."""
    names = np.random.default_rng(seed).permutation(np.unique(subjects))
    order = by_turns(subjects, seed)
    return [order[np.isin(subjects[order], names[k::parts])] for k in range(parts)]


@contextmanager
def _undisturbed(pl_module: L.LightningModule) -> Iterator[None]:
    """Nothing inside changes what is trained: torch's random state, on the CPU and the module's device, is put back."""
    cuda = [pl_module.device] if pl_module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        yield


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
        bottom.plot(images, numbers("variety"), "o-", color="#0072b2", markersize=4)
        bottom.set(ylabel="variety, real = 1", xlabel="images seen, in thousands", ylim=(0, None))
        bottom.legend(frameon=False, fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
