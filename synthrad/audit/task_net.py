"""A feature space of the task at hand: a classifier of the labels, trained on the audit split alone, without its last layer.

Neither the generator nor a downstream net has seen these patients, and no filter uses this net. It is small and short: read its numbers beside
those of radiomics, not in their place.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synthrad.cases import Case
from synthrad.data.batches import light_batches
from synthrad.errors import InputError
from synthrad.nets.losses import label_loss
from synthrad.nets.short_fit import fit_briefly
from synthrad.nets.timm_net import TimmNet
from synthrad.records import Manifest

VERSION = 1  # raise by hand when the fit changes
FEWEST_SUBJECTS = 20
FEWEST_OF_EACH = 5  # patients with a finding, and as many without it
AT_ONCE = 64


@dataclass(frozen=True)
class TaskNet:
    """How the net is fitted.

    Args:
        model: of timm, randomly initialised. steps, batch_size, lr: of the fit (AdamW, one cycle, nothing selected). seed: of
            initial weights, order and augmentation.
    """

    model: str = "resnet18"
    steps: int = 150
    batch_size: int = 16
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2 or self.lr <= 0:
            raise InputError("init_args", f"steps {self.steps}, batch_size {self.batch_size}, lr {self.lr}", "at least 1 step, 2 images, a rate above 0")

    @property
    def identity(self) -> str:
        """Of the settings."""
        return hashlib.sha256(json.dumps(["task net", VERSION, asdict(self)]).encode()).hexdigest()

    def fit(self, rows: Manifest, images: Tensor | None, load: Callable[[Path], bytes | None], save: Callable[[Path, bytes], None],
            folder: Path | None) -> TaskFeatures | str:
        """The space, from the audit patients; or why there is none.

        Args:
            rows, images: real images of the other splits. load, save, folder: where fitted weights are kept; None = nowhere.
        """
        at = np.flatnonzero(rows.column("split") == "audit")
        people, labels = rows.column("subject")[at], rows.labels[at]
        if len(set(people)) < FEWEST_SUBJECTS or images is None:
            return f"a net of the task needs {FEWEST_SUBJECTS} audit patients, has {len(set(people))}"
        told = [k for k in range(labels.shape[1])
                if min(len(set(people[labels[:, k] == value])) for value in (0, 1)) >= FEWEST_OF_EACH]
        if not told:
            return f"a net of the task needs a label that {FEWEST_OF_EACH} audit patients have and {FEWEST_OF_EACH} lack, has none"
        images, labels = images[at], labels[:, told].astype(np.float32)
        pixels = hashlib.sha256(np.ascontiguousarray(images.numpy()).data).hexdigest()
        identity = hashlib.sha256(json.dumps([self.identity, list(images.shape), pixels, np.nan_to_num(labels, nan=-1).tolist()]).encode()).hexdigest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net = TimmNet(self.model, None, images.shape[1], len(told))
        path = None if folder is None else folder / f"task_net-{identity[:32]}.pt"
        kept = None if path is None else load(path)
        if kept is not None:
            net.load_state_dict(torch.load(io.BytesIO(kept), weights_only=True, map_location="cpu"))
        else:
            self._train(net, images, torch.from_numpy(labels))
            if path is not None:
                buffer = io.BytesIO()
                torch.save(net.state_dict(), buffer)
                save(path, buffer.getvalue())
        return TaskFeatures(net, identity, len(set(people)), [rows.info.classes[k] for k in told])

    def _train(self, net: TimmNet, images: Tensor, labels: Tensor) -> None:
        none = torch.zeros(0)

        def case_of(i: int) -> Case:
            return Case(images[i], torch.zeros(0, *images.shape[2:], dtype=torch.int64), labels[i], torch.tensor(i), none)

        batches = light_batches(case_of, np.arange(len(images)), self.batch_size, np.random.default_rng([self.seed, 29]))
        fit_briefly(net, batches, lambda logits, batch: label_loss(logits, batch.labels.to(logits)), self.steps, self.lr, torch.device("cpu"),
                    "fitting the task net on the audit split")


class TaskFeatures:
    """Penultimate features of a fitted net; see audit.spaces.FeatureMap."""

    scaled, sigma = False, None

    def __init__(self, net: TimmNet, identity: str, subjects: int, labels: list[str]):
        self.net, self.identity = net.eval(), identity
        self.name = f"task net ({', '.join(labels)}; {subjects} audit patients)"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """float32 [n, d]."""
        rows = [self.net.net.forward_head(self.net.net.forward_features(part), pre_logits=True) for part in images.split(AT_ONCE)]
        return torch.cat(rows).flatten(1)
