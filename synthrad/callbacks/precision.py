"""The precision that was asked for: Lightning takes another one where a device has not that, and goes on with a warning."""

from __future__ import annotations

from lightning.pytorch import Trainer

from synthrad.errors import InputError


def check_precision(asked: str | int | None, trainer: Trainer) -> None:
    """Refuse float16 on a CPU, of which Lightning makes bfloat16.

    Args:
        asked: as Trainer takes it.

    Raises:
        InputError: the trainer computes in another precision.
    """
    if str(asked) in ("16", "16-mixed") and trainer.precision != "16-mixed":
        raise InputError("trainer.precision", f"{asked} on a {trainer.strategy.root_device.type}", "bf16-mixed or 32-true: float16 needs a GPU",
                         "use bf16-mixed, or trainer.accelerator=gpu")
