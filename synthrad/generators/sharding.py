"""`--trainer.strategy=fsdp`: each process keeps a part of every weight, gradient, average and moment of a diffusion model.

torch's fully_shard (FSDP2; Zhao et al. 2023, https://arxiv.org/abs/2304.11277) gathers the weights of a block of the UNet where it is computed and
lets go of them after it. The average is only gathered where it draws. Checkpoints hold whole tensors and are those of one process: they
are written by the first one, go on with any number of processes and any strategy, and `synthrad sample` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from synthrad.errors import InputError
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.ranks import put, weights_of
from synthrad.nets.diffusion_unet import ControlBranch, DiffusionUNet

FIRST = [Shard(0)]  # parts of the first dimension, as fully_shard makes them


class FullySharded(DDPStrategy):
    """DDP but for what a process keeps: parts of `net` and `net_ema` of a Diffusion and of its optimizer's state.

    What else the model has, such as a frozen autoencoder or the base of a ControlNet, is whole in each process.
    """

    def configure_ddp(self) -> None:
        """Share out the nets, once they have their weights and their device and before there is an optimizer.

        Raises:
            InputError: no diffusion model, one that trains a reader of words along, or float16, whose scale of gradients is not known to be shared right.
        """
        model = self.lightning_module
        if not isinstance(model, Diffusion):
            raise InputError("trainer.strategy", f"fsdp for a {type(model).__name__}", "a diffusion model", "use ddp_find_unused_parameters_true, "
                             "which keeps all of it in each process")
        if getattr(model.net, "words", None) is not None:  # called by itself, outside of the net that would gather it
            raise InputError("model.text", "words with trainer.strategy=fsdp", "a frozen reader (a folder or hub id), or null", "use "
                             "ddp, or name a reader of prompts that is not trained along")
        if self.precision_plugin.precision == "16-mixed":
            raise InputError("trainer.precision", "16-mixed with trainer.strategy=fsdp", "bf16-mixed or 32-true", "use bf16-mixed")
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        share_out(model.net, mesh)
        keep_parts(model.net_ema, mesh)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole tensors, on the first process; nothing on the others, which must all ask for it."""
        return self._on_first(super().lightning_module_state_dict())

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """As of one process, on the first one; nothing on the others, which must all ask for it."""
        found = super().optimizer_state(optimizer)
        made = {k: self._on_first(v) for k, v in found["state"].items()}
        return {**found, "state": made} if self.is_global_zero else {}

    def _on_first(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        made = {}
        for key, value in tensors.items():
            gathered = value.full_tensor() if isinstance(value, DTensor) else value
            if self.is_global_zero:
                made[key] = gathered.cpu() if isinstance(value, DTensor) else gathered
        return made

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's part of what one process had."""
        states = []
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [p for group in optimizer.param_groups for p in group["params"]]
            parts = {i: {k: _part_of(v, weights[i]) for k, v in entry.items()} for i, entry in saved["state"].items()}
            states.append({**saved, "state": parts})
        super().load_optimizer_state_dict({"optimizer_states": states})

    def teardown(self) -> None:
        """As Lightning's, without moving to the CPU what is in parts."""
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()
        self.checkpoint_io.teardown()


def named(asked: str | Strategy) -> Strategy:
    """The strategy that `trainer.strategy` asks for, where it is neither auto nor DDP.

    Raises:
        InputError: one that would train without our averages, guards or durable checkpoints, or that nobody knows.
    """
    if asked == "fsdp":
        return FullySharded()
    if isinstance(asked, DDPStrategy | SingleDeviceStrategy):
        return asked
    raise InputError("trainer.strategy", asked if isinstance(asked, str) else type(asked).__name__, "auto, ddp, "
                     "ddp_find_unused_parameters_true or fsdp (a diffusion model in parts)", "use fsdp where a model is too large for a device")


def share_out(net: DiffusionUNet | ControlBranch, mesh: DeviceMesh) -> None:
    """Keep a part of the weights of a net that is trained, in place; those of the first process count."""
    net.to(memory_format=torch.contiguous_format)  # fully_shard knows no other
    for tensor in [*net.parameters(), *net.buffers()]:
        torch.distributed.broadcast(tensor.detach(), 0)
    for block in net.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(net, mesh=mesh)


def keep_parts(net: nn.Module, mesh: DeviceMesh) -> None:
    """Keep a part of the weights of a net that is not trained, in place, divided as `share_out` divides; see ranks.whole."""
    for module, name, weight in weights_of(net):
        put(module, name, distribute_tensor(weight.detach().contiguous(), mesh, FIRST))


def _part_of(value: Any, weight: Tensor) -> Any:
    """This process's part of a tensor that is divided as a weight is; anything else as it is."""
    if not isinstance(weight, DTensor) or not isinstance(value, Tensor) or value.shape != weight.shape:
        return value
    return distribute_tensor(value.to(weight.device), weight.device_mesh, FIRST, src_data_rank=None)  # each has read the file
