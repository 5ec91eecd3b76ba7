"""How the nets of a generator compute attention: measured at the start of a fit, kept by its checkpoints.

What is chosen replaces `auto` among the hyperparameters, so that whatever is made from a checkpoint, a resumed fit and a
sampler too, computes as the fit did, on whatever machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from synthrad.nets import attention

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
            found = attention.measure(sizes, trainer.strategy.root_device, trainer.precision) if trainer.is_global_zero else None
            found = trainer.strategy.broadcast(found)
            chosen = found.flash
            if trainer.is_global_zero:
                print(f"{type(model).__name__}: attention by {'scaled_dot_product_attention' if chosen else 'the plain product'} (its blocks "
                      f"forward and backward: {found.with_flash:.1f} ms, plain {found.plain:.1f} ms; model.flash says otherwise)", flush=True)
        model.hparams.flash = chosen
    use_attention(model)


def keep_attention(model: Any, checkpoint: Mapping[str, Any]) -> None:
    """For `auto`, compute as the checkpoint did; to be called once the nets are made."""
    if model.hparams.flash == "auto":
        model.hparams.flash = checkpoint.get("hyper_parameters", {}).get("flash", True)
    use_attention(model)


def use_attention(model: Any) -> None:
    """Let the nets do what the hyperparameters say."""
    for net in model.attending:
        attention.set_flash(net, bool(model.hparams.flash))  # auto, before it is settled: flash
