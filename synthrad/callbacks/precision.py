"""The precision of a fit: the one that pays on a device, and the one that was asked for where Lightning would take another and go on with a warning."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer

from synthrad.errors import InputError


def paying_precision(accelerator: str = "auto") -> str:
    """What a downstream fit computes in where no precision is named: bf16-mixed on a device that multiplies bfloat16 itself, else 32-true.

    On others bfloat16 is emulated and takes longer. `benchmarks/bench_tasks.py precision` measures both.

    Args:
        accelerator: as Trainer takes it.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "32-true"
    return "32-true"  # nothing was measured there


def check_engine(asked: str | int | None) -> None:
    """Refuse NVIDIA's Transformer Engine, before Lightning looks for it: it computes in 8 bits, and no net here was fitted so.

    Args:
        asked: as Trainer takes it.

    Raises:
        InputError: transformer-engine or transformer-engine-float16.
    """
    if str(asked).startswith("transformer-engine"):
        raise InputError("trainer.precision", str(asked), "32-true or bf16-mixed, or 16-mixed on a GPU", "use bf16-mixed")


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
