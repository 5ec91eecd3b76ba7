"""What of a pretrained net learns: nothing but its new head, low-rank changes of its attention, or all."""

from __future__ import annotations

import re
import warnings
from typing import Literal

from torch import nn

from synthrad.errors import InputError
from synthrad.nets.transformers_loading import UNUSED

Tuning = Literal["frozen", "lora", "full"]
QUERIES_AND_VALUES = ("query", "value", "q_proj", "v_proj", "qkv", "q", "v")  # as transformers and timm name them


def tune(backbone: nn.Module, how: Tuning, rank: int = 8, pretrained: bool = True, key: str = "model.net") -> None:
    """Choose in place which parameters of a backbone learn; build what is new beside it, such as a head, as its own module.

    Args:
        how: frozen = none. lora = a low-rank product beside every projection to queries and values (Hu et al. 2021, scaled by 2), which starts at 0,
            all else frozen. full = all but the parts that no net here reads.
        rank: of the product. pretrained: whether the backbone has weights; random ones that stay frozen are warned of.

    Raises:
        InputError: a rank below 1, or a backbone without such projections.
    """
    if how not in ("frozen", "lora", "full"):
        raise InputError(f"{key}.tuning", repr(how), "frozen, lora or full")
    if not pretrained and how != "full":
        warnings.warn(f"{key}: weights null with tuning {how}: a backbone of random features that do not learn")
    backbone.requires_grad_(how == "full")
    if how == "full":
        for name, parameter in backbone.named_parameters():
            if any(re.search(unused, name) for unused in UNUSED):
                parameter.requires_grad_(False)
    if how == "lora":
        _add_low_rank(backbone, rank, key)


def _add_low_rank(backbone: nn.Module, rank: int, key: str) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    targets = [n for n, m in backbone.named_modules() if isinstance(m, nn.Linear) and n.rpartition(".")[2] in QUERIES_AND_VALUES
               and not any(re.search(unused, n) for unused in UNUSED)]
    if rank < 1:
        raise InputError(f"{key}.rank", str(rank), "at least 1", "such as 8")
    if not targets:
        raise InputError(f"{key}.tuning", f"lora for {type(backbone).__name__}", f"a net with linear layers named {', '.join(QUERIES_AND_VALUES)}",
                         "use tuning full or frozen")
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets), backbone)


def trainable(net: nn.Module) -> int:
    """The number of parameters that learn."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
