"""Selection by KID: the generator that was nearest to the validation images is kept beside the last one. Opt-in.

    --trainer.callbacks+=synthrad.callbacks.selection.KeepBestKID        (after Fidelity)

The lowest of several measured values is low by luck as well, so at the end the ranks are told with their uncertainty.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np

from synthrad.callbacks.durable_checkpoint import DurableCheckpoint
from synthrad.callbacks.fidelity import Fidelity
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.lineage import hash_subjects, project_key


class KeepBestKID(L.Callback):
    """Keep the weights of the check with the lowest KID as `best-<step>.ckpt`, and say how sure that choice is.

    Needs Fidelity before it in trainer.callbacks, DurableCheckpoint, and validation subjects. Those become
    `selected_on` in the lineage of every set that is drawn from the checkpoint kept, so that none of them can test an arm
    that uses it. At the end `selection.json` is written beside `fidelity.jsonl`, see `ranks`.
    """

    def __init__(self) -> None:
        self._offered: list[int] = []  # images seen at the checks that this fit offered
        self._passed: list[int] = []  # at those before conditions counted
        self._fidelity: Fidelity | None = None
        self._keeper: DurableCheckpoint | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the callbacks that it works with."""
        if stage != "fit":
            return
        before = trainer.callbacks[: trainer.callbacks.index(self)]
        self._fidelity = next((c for c in before if isinstance(c, Fidelity)), None)
        if self._fidelity is None:
            raise InputError("trainer.callbacks", "KeepBestKID without a Fidelity before it", "Fidelity, then KeepBestKID",
                             "add synthrad.callbacks.fidelity.Fidelity before it")
        self._keeper = next((c for c in trainer.callbacks if isinstance(c, DurableCheckpoint)), None)
        if self._keeper is None:
            raise InputError("trainer.callbacks", "KeepBestKID, and no checkpoints", "a fit that keeps checkpoints",
                             "leave trainer.fast_dev_run and trainer.enable_checkpointing=false out")
        if self._keeper.monitor is not None or self._keeper.mode != "max":
            raise InputError("trainer.callbacks", "KeepBestKID without a DurableCheckpoint of its own",
                             "a DurableCheckpoint without `monitor`", "leave DurableCheckpoint out of the config: it is always there")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse, on every process, to select on training images, or among checks whose weights are gone."""
        real, lines = self._fidelity.real, [json.loads(x) for x in self._fidelity.lines]
        enough = real is not None and real.reference == "validation"
        mine = [x["images"] for x in lines] == sorted([*self._offered, *self._passed])
        alike = all((x["seed"], x["generated"], len(x["kid_draws"])) == (self._fidelity.seed, self._fidelity.number, self._fidelity.draws)
                    for x in lines)
        enough, mine, alike = trainer.strategy.broadcast((enough, mine, alike))
        if not enough:
            raise InputError("trainer.callbacks", "KeepBestKID, and too few validation subjects", "at least 3 to select on",
                             "prepare the dataset with a validation split, or leave the callback out: the last weights are used")
        if not mine:
            raise InputError("trainer.callbacks", "KeepBestKID in a fit that was checked without it before",
                             "KeepBestKID from the start: the weights of earlier checks are gone", "start afresh in a new folder")
        if not alike:
            raise InputError("trainer.callbacks", "Fidelity with another seed, number or draws than in the first part of this fit",
                             "the same: checks of other settings cannot be ranked together", "set them as they were")

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        """Look at a new check."""
        self._look(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the last check; tell the ranks."""
        self._look(trainer, pl_module)
        if trainer.is_global_zero and self._fidelity.lines:
            found = ranks([line for x in self._fidelity.lines if (line := json.loads(x))["images"] not in self._passed])
            if found is None:
                warnings.warn("KeepBestKID: no check had a KID; nothing was selected", stacklevel=2)
                return
            write_durably(self._fidelity.folder / "selection.json", json.dumps(found, indent=1).encode())
            print(f"KeepBestKID: {words(found)}\nKeepBestKID: {self._keeper.best_model_path}", flush=True)

    def _look(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._fidelity.checked is None or self._fidelity.checked in (*self._offered, *self._passed):
            return
        if not getattr(pl_module, "conditioned", True):  # KID knows nothing of conditions: it would choose weights that ignore them
            self._passed.append(self._fidelity.checked)
            return
        self._offered.append(self._fidelity.checked)
        kid = json.loads(self._fidelity.lines[-1])["kid"] if trainer.is_global_zero and self._fidelity.lines else None
        kid = trainer.strategy.broadcast(kid)
        if kid is None:
            warnings.warn(f"KeepBestKID: no KID after {self._offered[-1]:,} images; that state cannot be selected", stacklevel=2)
            return
        spec, real = pl_module.spec, self._fidelity.real
        if real is not None:  # on the process that writes
            seen = hash_subjects(trainer.datamodule.train.info.id, real.held_subjects, project_key())
            pl_module.spec = {**spec, "selected_on": sorted(seen), "selected_by": f"lowest KID on {len(seen)} validation subjects"}
        try:
            self._keeper.offer(trainer, -kid)
        finally:
            pl_module.spec = spec  # states to resume from are not selected

    def state_dict(self) -> dict[str, Any]:
        """Which checks were offered."""
        return {"offered": list(self._offered), "passed": list(self._passed)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._offered, self._passed = list(state_dict["offered"]), list(state_dict.get("passed", []))


def ranks(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Which check had the lowest KID, and how far that rank can be trusted; None where no check has a KID.

    Args:
        lines: of a fidelity.jsonl; `kid_draws` holds the KID over bootstrap samples of the subjects, the same in every line.

    Returns:
        images and kid of the one selected, kid_low, kid_high (95 %); checks; validation_subjects; rank_low, rank_high (its
        rank in 95 % of the resamplings, 1 = lowest); first (the share in which it is lowest) and last_first (that of the
        last check); level (images of the checks whose KID does not exceed it in at least 97.5 % of the resamplings).
    """
    measured = [x for x in lines if x["kid"] is not None and None not in x["kid_draws"]]
    if not measured:
        return None
    draws = np.array([x["kid_draws"] for x in measured])  # [checks, draws]
    best = int(np.argmin([x["kid"] for x in measured]))
    rank = 1 + (draws < draws[best]).sum(0)
    low, high = np.quantile(rank, [0.025, 0.975], method="inverted_cdf")
    worse = (draws > draws[best]).mean(1) >= 0.975
    one = measured[best]
    return {
        "images": one["images"], "step": one["step"], "kid": one["kid"], "kid_low": one["kid_low"], "kid_high": one["kid_high"],
        "checks": len(measured), "validation_subjects": one["reference_subjects"], "rank_low": int(low), "rank_high": int(high),
        "first": float((rank == 1).mean()), "last_first": float((draws[-1] <= draws.min(0)).mean()),
        "level": [x["images"] for x, w in zip(measured, worse, strict=True) if not w and x is not one],
    }  # fmt: skip


def words(found: Mapping[str, Any]) -> str:
    """The ranks in a sentence or two."""
    level = len(found["level"])
    return (f"selected after {found['images']:,} images: KID {found['kid']:.4g} [{found['kid_low']:.4g}, {found['kid_high']:.4g}], the "
            f"lowest of {found['checks']} checks on {found['validation_subjects']} validation subjects. With other subjects its rank "
            f"would be {found['rank_low']} to {found['rank_high']} (95 %), and the first in {found['first']:.0%} of the resamplings; the last "
            f"check would be first in {found['last_first']:.0%}. {level} other check{' is' if level == 1 else 's are'} not worse beyond "
            "what other subjects would change.")
