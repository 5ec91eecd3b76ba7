"""How the nets of a generator compute attention: measured at the start of a fit, kept by its checkpoints.

What is chosen replaces `auto` among the hyperparameters, so that whatever is made from a checkpoint, a resumed fit and a
sampler too, computes as the fit did, on whatever machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import torch

from synthrad.files import read_facts, write_durably
from synthrad.lineage import project_folder
from synthrad.nets import attention

KEPT = "attention.json"  # in the project's folder

Flash = bool | Literal["auto"]


def settle_attention(model: Any) -> None:
    """Choose for `auto`, one process for all; to be called once the nets and their device are known.

    Args:
        model: a generator on a Trainer, with `attending`, its nets, the first of which knows the sizes of its attention.
    """
    trainer = model.trainer
    if model.hparams.flash == "auto":
        sizes, chosen = tuple(model.attending[0].attended), True
        if sizes and trainer.precision != "16-mixed":  # there the plain product overflows
            found = _measured(sizes, trainer.strategy.root_device, trainer.precision) if trainer.is_global_zero else None
            found = trainer.strategy.broadcast(found)
            chosen = found.flash
            if trainer.is_global_zero:
                print(f"{type(model).__name__}: attention by {'scaled_dot_product_attention' if chosen else 'the plain product'} (its blocks "
                      f"forward and backward: {found.with_flash:.1f} ms, plain {found.plain:.1f} ms; model.flash says otherwise)", flush=True)
        model.hparams.flash = chosen
    use_attention(model)


def _measured(sizes: tuple[attention.Attended, ...], device: torch.device, precision: str) -> attention.Measured:
    """What was measured in this project on such a device, or is now: two fits of one config must compute alike, however close the times are."""
    own = [torch.cuda.get_device_name(device)] if device.type == "cuda" else [torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]
    key, path = json.dumps([sizes, precision, device.type, *own, torch.__version__]), project_folder() / KEPT
    known = read_facts(path)
    if key in known:
        return attention.Measured(*known[key])
    found = attention.measure(sizes, device, precision)
    known = read_facts(path)  # another fit may have measured meanwhile: the first counts
    write_durably(path, json.dumps({key: found, **known}, indent=1).encode())
    return attention.Measured(*known.get(key, found))


def keep_attention(model: Any, checkpoint: Mapping[str, Any]) -> None:
    """For `auto`, compute as the checkpoint did; to be called once the nets are made."""
    if model.hparams.flash == "auto":
        model.hparams.flash = checkpoint.get("hyper_parameters", {}).get("flash", True)
    use_attention(model)


def use_attention(model: Any) -> None:
    """Let the nets do what the hyperparameters say."""
    for net in model.attending:
        attention.set_flash(net, bool(model.hparams.flash))  # auto, before it is settled: flash
