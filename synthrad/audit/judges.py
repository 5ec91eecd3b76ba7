"""What judges of an audit have in common: they learn from the split audit alone, on small images, for a fixed number of steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.nn import functional as F

from synthrad.audit.sides import Sides, Witnesses
from synthrad.cases import Case, collate
from synthrad.data.batches import light_batches
from synthrad.data.transforms import light
from synthrad.nets.losses import label_loss, layers_loss
from synthrad.nets.short_fit import fit_briefly
from synthrad.nets.siamese import Branch, Siamese, contrastive_loss
from synthrad.records import Manifest

SIDE = 64  # pixels on the shorter side, at most: what a judge looks at
STRIDE = 8  # of the segmenter
BATCH = 16
PATIENTS_A_BATCH = 16  # of the verifier: two images each
STEPS, RATE = 250, 2e-3
FEWEST_SUBJECTS = 20  # of the split audit, below which no judge of labels or masks is trained
FEWEST_EACH = 5  # patients (images of a set) with a label or value, and without
MOST_VALUES = 10  # of an attribute that counts as categories
CPU = torch.device("cpu")


def small(images: Tensor) -> Tensor:
    """[n, C, H, W], SIDE pixels on the shorter side at most, each side a multiple of STRIDE."""
    scale = min(1.0, SIDE / min(images.shape[2:]))
    size = [max(STRIDE, round(s * scale / STRIDE) * STRIDE) for s in images.shape[2:]]
    return images if list(images.shape[2:]) == size else F.interpolate(images, size, mode="bilinear", antialias=True).clamp(-1, 1)


def _case(image: Tensor, masks: Tensor, labels: Tensor, row: int) -> Case:
    return Case(image, masks, labels, torch.tensor(row), torch.zeros(0))


# ---- what is asked about an image


@dataclass(frozen=True)
class Target:
    """A label, or a value of an attribute, that an image has or has not.

    Args:
        kind: label or attribute. name: as printed. column: of a manifest. value: that it has to have, None for a label.
    """

    kind: str
    name: str
    column: str
    value: str | None = None

    def of(self, rows: Manifest) -> np.ndarray:
        """float [n]: 1, 0 or NaN (unknown)."""
        values = rows.column(self.column) if self.column in rows.table else np.full(len(rows), np.nan if self.value is None else "")
        return values.astype(float) if self.value is None else np.array([np.nan if v == "" else float(v == self.value) for v in values])


def targets_of(sides: Sides) -> list[Target]:
    """Labels that the set names, and values of its attributes (of two values one is enough)."""
    found = [Target("label", c, f"label:{c}") for c in sides.drawn.info.classes]
    for a in sides.drawn.info.attributes:
        column = f"attribute:{a}"
        values = sorted(set(sides.rows.column(column)) - {""}) if column in sides.rows.table else []
        if 2 <= len(values) <= MOST_VALUES:
            found += [Target("attribute", f"{a}={v}", column, v) for v in (values[:1] if len(values) == 2 else values)]
    return [t for t in found if not np.isnan(t.of(sides.drawn)).all()]


def enough(values: np.ndarray, subjects: np.ndarray) -> tuple[int, int]:
    """Subjects with the value on some image, and without it on some."""
    return len(set(subjects[values == 1])), len(set(subjects[values == 0]))


# ---- fits


class Classifier:
    """Labels and attribute values of images, from a net that saw the split audit.

    Args:
        witnesses: whom it learns from. targets: that it learns.
    """

    def __init__(self, witnesses: Witnesses, targets: list[Target], seed: int = 0):
        self.targets = targets
        images = small(witnesses.images)
        wanted = torch.from_numpy(np.stack([t.of(witnesses.rows) for t in targets], 1)).float()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._net = Branch(images.shape[1], len(targets))
            none = torch.zeros(0, *images.shape[2:], dtype=torch.long)
            batches = light_batches(lambda i: _case(images[i], none, wanted[i], i), np.arange(len(images)), BATCH, np.random.default_rng([seed, 41]))
            fit_briefly(self._net, batches, lambda logits, b: label_loss(logits, b.labels), STEPS, RATE, CPU, "audit: fitting a classifier")
        self._net.eval()

    def __call__(self, images: Tensor) -> np.ndarray:
        """[n, C, H, W] to probabilities [n, targets]."""
        return _answers(self._net, small(images)).sigmoid().double().numpy()


class Segmenter:
    """Where the structures of each layer lie, from a net that saw the split audit.

    Args:
        witnesses: whom it learns from, with masks.
    """

    def __init__(self, witnesses: Witnesses, seed: int = 0):
        images = small(witnesses.images[torch.from_numpy(witnesses.with_masks)])
        masks = (small(witnesses.masks) > 0).long()
        layers = masks.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._net = UNet(2, images.shape[1], 2 * layers, (16, 32, 64, 128), (2, 2, 2), num_res_units=1, norm="batch")
            self._net.to(memory_format=torch.channels_last)
            none = torch.zeros(0)
            batches = light_batches(lambda i: _case(images[i], masks[i], none, i), np.arange(len(images)), BATCH, np.random.default_rng([seed, 43]))
            fit_briefly(self._net, batches, lambda logits, b: layers_loss(logits.split([2] * layers, 1), b.masks), STEPS, RATE, CPU,
                        "audit: fitting a segmenter")
        self._net.eval()

    def __call__(self, images: Tensor) -> Tensor:
        """[n, C, H, W] to bool [n, L, h, w], at the size of `small`."""
        logits = _answers(self._net, small(images))
        return logits[:, 1::2] > logits[:, ::2]


def fit_verifier(witnesses: Witnesses, seed: int = 0) -> Siamese:
    """A siamese net (nets.siamese) that tells whether two images are of one patient.

    Each batch has two images of each of some patients, lightly augmented, and all their pairs. A patient with one image shows it
    twice: such pairs teach what does not make a patient, but whether the net knows patients is for pairs of two images to say.
    """
    images, rng = small(witnesses.images), np.random.default_rng([seed, 47])
    who = np.unique(np.asarray(witnesses.rows.column("subject")), return_inverse=True)[1].reshape(-1)
    rows = [np.flatnonzero(who == s) for s in range(who.max() + 1)]
    none = torch.zeros(0, *images.shape[2:], dtype=torch.long)

    def batches() -> Iterator[Case]:
        while True:
            chosen = rng.permutation(len(rows))[:PATIENTS_A_BATCH]
            pairs = np.concatenate([rng.choice(rows[s], 2, replace=len(rows[s]) < 2) for s in chosen])
            yield collate([light(_case(images[i], none, torch.zeros(0), int(i)), rng) for i in pairs])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Siamese(images.shape[1])
        owner = torch.from_numpy(who)
        fit_briefly(net, batches(), lambda logits, b: contrastive_loss(logits, owner[b.index]), STEPS, RATE, CPU, "audit: fitting a verifier of patients")
    return net.eval()


@torch.no_grad()
def _answers(net: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([net(part).float() for part in images.split(64)])
