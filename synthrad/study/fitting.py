"""fit_and_test: one downstream fit and its test in one process, resumable, leaving cases.parquet."""

from __future__ import annotations

import gc
import json
import logging
import resource
import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from synthrad.callbacks import (
    DurableCheckpoint,
    DurableCheckpointIO,
    ImageProgress,
    Preemption,
    RandomState,
    interruptible,
    newest_valid,
)
from synthrad.callbacks.precision import check_precision
from synthrad.callbacks.world_size import cluster_plugins
from synthrad.cases import write_cases
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.nets.flops import forward_flops
from synthrad.nets.tuning import trainable

CHATTY = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")


def fit_and_test(
    task: LightningModule,
    datamodule: LightningDataModule,
    run_folder: Path | str,
    steps: int,
    val_every: int,
    seed: int,
    names: dict[str, str] | None = None,
    identity: str = "",
    callbacks: Sequence[Callback] = (),
    accelerator: str = "auto",
    precision: str | None = None,
    save_every_seconds: float = 120.0,
    keep_checkpoint: bool = True,
) -> dict[str, Any]:
    """Train for `steps` optimizer steps, choose the best validation, test it, write the cases table.

    A killed fit resumes from its newest whole checkpoint, bit for bit on the CPU. A finished one (cases.parquet and
    fit.json of the same identity) is not done again.

    Args:
        task: a task with `monitor` and `cases`; seed its net before making it.
        datamodule: FusionDataModule with the same `steps`.
        run_folder: gets cases.parquet, fit.json, timing.jsonl, metrics.csv, TensorBoard events and checkpoints/.
        steps: optimizer steps. val_every: steps between validations.
        seed: of dropout and the like; the seed column of the cases.
        names: {"task", "net", "arm"} columns of the cases table.
        identity: what the result depends on, hashed; another one than that of the folder starts afresh.
        callbacks: further ones. accelerator, precision: as Lightning's Trainer takes them.
        save_every_seconds: time between states to resume from.
        keep_checkpoint: keep the best weights after the test.

    Returns:
        The content of fit.json: steps, best_step, seconds, score_val, precision, parameters (trained: those that learn), flops (of the net, one picture), memory_bytes (peak
        of the GPU, on a CPU of the process), identity.

    Raises:
        RunError: stopped by a signal (the same command resumes), or the loss is not finite.
    """
    folder = Path(run_folder)
    done = finished(folder, identity)
    if done is not None:
        return done
    if steps < 1 or val_every < 1:
        raise InputError("steps, val_every", f"{steps}, {val_every}", "1 or more each")
    _start_afresh_if_other(folder, identity)
    quiet = [logging.getLogger(name) for name in CHATTY]
    levels = [log.level for log in quiet]
    for log in quiet:
        log.setLevel(logging.ERROR)
    try:
        with interruptible(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*|.*Experiment logs.*|.*LeafSpec.*|.*in eval mode.*")
            return _fit(task, datamodule, folder, steps, min(val_every, steps), seed, names or {}, identity,
                        callbacks, {"accelerator": accelerator, "precision": precision}, save_every_seconds, keep_checkpoint)
    finally:
        for log, level in zip(quiet, levels, strict=True):
            log.setLevel(level)
        # trainer, task and data point at each other: several fits run in one process
        task.trainer = None
        datamodule.trainer = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def finished(folder: Path | str, identity: str = "") -> dict[str, Any] | None:
    """fit.json of a folder whose fit and test are done under this identity, else None."""
    folder = Path(folder)
    if not (folder / "fit.json").is_file() or not (folder / "cases.parquet").is_file():
        return None
    facts = json.loads((folder / "fit.json").read_text())  # written last: it vouches for the cases
    return facts if facts.get("identity") == identity else None


def _start_afresh_if_other(folder: Path, identity: str) -> None:
    mark = folder / "identity"
    if folder.is_dir() and (not mark.is_file() or mark.read_text() != identity):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        for old in ("fit.json", "cases.parquet", "synthetic_cases.parquet", "timing.jsonl"):
            (folder / old).unlink(missing_ok=True)
        for events in folder.glob("events.out.tfevents.*"):
            events.unlink()
    write_durably(mark, identity.encode())


def _fit(
    task: LightningModule, datamodule: LightningDataModule, folder: Path, steps: int, val_every: int, seed: int,
    names: dict[str, str], identity: str, callbacks: Sequence[Callback], machine: dict[str, Any],
    save_every_seconds: float, keep_checkpoint: bool,
) -> dict[str, Any]:  # fmt: skip
    start = time.monotonic()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seed_everything(seed, workers=True, verbose=False)
    title = "/".join(names.get(k, "") for k in ("task", "net", "arm")).strip("/") or "fit"
    keeper = DurableCheckpoint(folder / "checkpoints", monitor=task.monitor, every_seconds=save_every_seconds, save_final=False)
    trainer = Trainer(
        **machine,
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        val_check_interval=val_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=max(1, min(50, steps // 20)),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        logger=[TensorBoardLogger(folder, name="", version="", default_hp_metric=False), CSVLogger(folder, name="", version="")],
        callbacks=[RandomState(), Preemption(), ImageProgress(f"{title} seed {seed}"), keeper, *callbacks],
        plugins=[DurableCheckpointIO(), *cluster_plugins()],
    )
    check_precision(machine["precision"], trainer)
    learns = any(p.requires_grad for p in task.parameters())
    resume = newest_valid(folder / "checkpoints") if learns else None
    if learns:
        trainer.fit(task, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    else:
        keeper.best_score = _validated(trainer, task, datamodule)
    fitted = time.monotonic()
    best = newest_valid(folder / "checkpoints", "best")
    if best is None and learns:
        warnings.warn(f"{folder}: no validation gave a score (no reference in split val?); the last weights are tested")
    elif best is not None:
        state = DurableCheckpointIO().load_checkpoint(best)["state_dict"]
        task.load_state_dict(state)
    task.run_names = {**names, "seed": seed}
    trainer.test(task, datamodule=datamodule, verbose=False)
    tested = time.monotonic()
    table = task.cases.assign(task=names.get("task", ""), net=names.get("net", ""), arm=names.get("arm", ""), seed=seed)
    steps = steps if learns else 0
    images = steps * datamodule.batch_size
    facts = {
        "steps": steps,
        "best_step": keeper.best_step if best is not None else steps,
        "seconds": fitted - start,
        "score_val": keeper.best_score,
        "precision": trainer.precision,
        "parameters": sum(p.numel() for p in task.parameters()),
        "trained": trainable(task),
        **_machine_costs(task, datamodule, trainer.strategy.root_device.type == "cuda"),
        "identity": identity,
        "resumed_from": resume.name if resume else None,
    }
    if trainer.is_global_zero:
        rows = [{"stage": "fit", "seconds": fitted - start, "images": images},
                {"stage": "test", "seconds": tested - fitted, "images": int(table["image"].nunique())}]
        write_cases(folder / "cases.parquet", table)
        write_durably(folder / "timing.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())
        # before the checkpoints go: a kill among the removals must not leave an older state without its best weights
        write_durably(folder / "fit.json", json.dumps(facts, indent=1).encode())
        for old in (folder / "checkpoints").glob("last-*" if keep_checkpoint else "*"):
            old.unlink()
    return facts


def _validated(trainer: Trainer, task: LightningModule, datamodule: LightningDataModule) -> float | None:
    """The validation score of a net of which nothing learns, such as a zero-shot one; its thresholds are chosen."""
    trainer.validate(task, datamodule=datamodule, verbose=False)
    score = trainer.callback_metrics.get(task.monitor)
    return None if score is None else float(score)


def _machine_costs(task: LightningModule, datamodule: LightningDataModule, gpu: bool) -> dict[str, int | None]:
    """flops and memory_bytes of fit.json; the memory is that of the fit and its test, read before anything else is computed."""
    memory = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = getattr(datamodule, "size", None)
    return {"flops": size and forward_flops(task.net, torch.zeros(1, datamodule.num_channels, *size, device=task.device, dtype=task.dtype)), "memory_bytes": int(memory)}
