"""As many processes as were asked for: a job with fewer trains on fewer devices, or waits for the others, without a word."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from synthrad.errors import InputError, RunError

INTERACTIVE = ("bash", "interactive")  # names of SLURM jobs in which Lightning takes no notice of SLURM


def count_of(devices: Any) -> int | None:
    """How many devices a node a trainer's `devices` asks for; None where it takes what it finds (auto, -1)."""
    if isinstance(devices, list | tuple):
        return len(devices)
    text = str(devices)
    if "," in text:
        return len([d for d in text.split(",") if d.strip()])
    return int(text) if text.isdigit() and int(text) > 0 else None


def check_tasks(num_nodes: int, devices: int, environ: Mapping[str, str]) -> None:
    """Compare nodes and processes that srun or torchrun started with what the trainer was asked for, before anything waits.

    Args:
        num_nodes: of the trainer. devices: of one node, each with a process of its own.
        environ: the environment; SLURM_NNODES, SLURM_NTASKS and SLURM_NTASKS_PER_NODE are of the step that srun started.

    Raises:
        InputError: they differ.
    """
    asked = f"{num_nodes} node(s) x {devices} device(s) = {num_nodes * devices}, as trainer.num_nodes and trainer.devices say"
    if "TORCHELASTIC_RUN_ID" in environ:
        if (world := int(environ.get("WORLD_SIZE", "1"))) != num_nodes * devices:
            raise InputError("torchrun", f"{world} process(es)", asked, f"torchrun --nnodes={num_nodes} --nproc-per-node={devices} ...")
        return
    if "SLURM_NTASKS" not in environ or environ.get("SLURM_JOB_NAME") in INTERACTIVE:
        return
    repair = (f"start one task a device: srun --nodes={num_nodes} --ntasks={num_nodes * devices} --ntasks-per-node={devices} ..., "
              "in an sbatch file with the same --nodes and --ntasks-per-node")
    tasks, nodes = int(environ["SLURM_NTASKS"]), int(environ.get("SLURM_NNODES", "1"))
    if tasks != num_nodes * devices:
        raise InputError("SLURM_NTASKS", f"{tasks} process(es)", asked, repair)
    if nodes != num_nodes:
        raise InputError("SLURM_NNODES", f"{nodes} node(s)", f"{num_nodes}, as trainer.num_nodes says", repair)
    if tasks > 1 and environ.get("SLURM_NTASKS_PER_NODE") != str(devices):
        raise InputError("SLURM_NTASKS_PER_NODE", environ.get("SLURM_NTASKS_PER_NODE", "nothing"), f"{devices}, as trainer.devices says", repair)


def cluster_plugins() -> list[SLURMEnvironment]:
    """The plugin that turns off Lightning's requeueing under SLURM, which saves inside a signal handler; [] elsewhere.

    Preemption saves at the end of a batch instead, and scripts/*.sbatch or the study's job requeue.
    """
    if TorchElasticEnvironment.detect() or "SLURM_NTASKS" not in os.environ or os.environ.get("SLURM_JOB_NAME") in INTERACTIVE:
        return []
    return [SLURMEnvironment(auto_requeue=False)]


def refused(trainer: Trainer, here: bool) -> bool:
    """Whether the first process was refused what it alone asks for, on all processes that srun or torchrun started.

    Those that Lightning starts itself exist only once the first one has not been. On one machine or node that is no job of either
    (NODE_RANK set by hand) each process knows its own answer alone.

    Args:
        here: whether this process was refused.
    """
    strategy = trainer.strategy
    environment = getattr(strategy, "cluster_environment", None)
    if trainer.world_size == 1 or environment is None or isinstance(environment, LightningEnvironment):
        return here
    strategy.setup_environment()  # as the fit does, which then finds it done
    return bool(strategy.broadcast(here))


class WorldSize(Callback):
    """Refuses to train on another number of processes than was asked for, or on processes that resume from different states.

    Args:
        num_nodes, devices: as the trainer was asked for; devices None = as many as are found on a node.

    Raises:
        InputError: srun or torchrun started another number.
    """

    def __init__(self, num_nodes: int = 1, devices: int | None = None):
        self.num_nodes, self.devices = num_nodes, devices
        if devices is not None:
            check_tasks(num_nodes, devices, os.environ)

    def check(self, trainer: Trainer) -> None:
        """Compare the trainer that was made.

        Raises:
            InputError: it counts other processes than nodes x devices.
        """
        devices = self.devices or trainer.num_devices
        check_tasks(self.num_nodes, devices, os.environ)
        if trainer.world_size != self.num_nodes * devices:
            raise InputError("trainer.devices", f"{trainer.world_size} process(es)", f"{self.num_nodes} node(s) x {devices} device(s)",
                             "start one task a device (srun --ntasks-per-node, or torchrun)")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the step that each process is at: a node may still see the folder of checkpoints as it was.

        Raises:
            RunError: they differ.
        """
        if trainer.world_size == 1:
            return
        steps = torch.tensor([trainer.global_step, -trainer.global_step], device=pl_module.device)
        torch.distributed.all_reduce(steps, op=torch.distributed.ReduceOp.MAX)
        last, first = int(steps[0]), -int(steps[1])
        if first != last:
            raise RunError(f"processes resume from different checkpoints, of step {first} and of step {last}: a node still sees an older "
                           "folder of checkpoints. Nothing is lost: wait a minute, then type the same command.")
