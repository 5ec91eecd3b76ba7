"""Groups of parameters for an optimizer: rates that fall from the head to the first layer, a rate of the head, and what is not decayed."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from synthrad.errors import InputError
from synthrad.nets.pretrained_net import PretrainedNet

BLOCK = re.compile(r"(?:^|\.)(?:layers?|blocks?|stages?)\.?(\d+)(?:\.(?:(?:layers?|blocks?)\.)?(\d+))?(?=\.)")  # blocks.3., layer1.0., layers.0.blocks.1.
HEAD = re.compile(r"(?:^|\.)(?:\w*_)?(?:heads?|fc|classifier|last_linear|decoder|decode_head|auxiliary_head)(?:\.|$)")
PLACES = re.compile(r"(?:^|\.)(?:\w*pos\w*_?embed\w*|\w*position\w*|\w*_tokens?|prompts|class_embedding|relative_\w*|query)$")  # embeddings of places, tokens of no place


def parameter_groups(net: nn.Module, lr: float, weight_decay: float, layer_decay: float | None = None, head_lr: float | None = None,
                     decay_all: bool = True) -> list[dict[str, Any]]:
    """What torch.optim takes as parameters: those that learn, with the rate and decay of each.

    With `layer_decay` d a parameter k layers below the head has the rate lr d^k (Clark et al. 2020; Bao et al. 2022); layers are the blocks of a
    transformer or of a CNN as its parameters' names count them, those before the first block are the lowest, those after the last one the head's. Of a
    `PretrainedNet` all that lies outside of its backbone is the head.

    Args:
        lr, weight_decay: of the head and of all that is decayed. head_lr: of the head alone; None = lr.
        layer_decay: 0 to 1 (1 = the same for all); None = 1.
        decay_all: False: no decay on norms, biases, embeddings of places and class tokens.

    Raises:
        InputError: a decay out of its range, or a net without numbered layers.
    """
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise InputError("model.layer_decay", str(layer_decay), "above 0, at most 1 (all layers alike)", "such as 0.75")
    if head_lr is not None and head_lr <= 0:
        raise InputError("model.head_lr", str(head_lr), "above 0")
    depths, heads, groups = layers_below_head(net), _of_heads(net), {}
    if layer_decay not in (None, 1) and not any(depths.values()):
        raise InputError("model.layer_decay", f"{type(net).__name__}, whose parameters' names count no layers", "a net of numbered blocks, layers or stages",
                         "set it to null")
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = head_lr if head_lr is not None and name in heads else lr * (layer_decay or 1.0) ** depths[name]
        plain = not decay_all and (parameter.ndim <= 1 or PLACES.search(name) is not None)
        groups.setdefault((rate, 0.0 if plain else weight_decay), []).append(parameter)
    return [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]


def layers_below_head(net: nn.Module) -> dict[str, int]:
    """How many layers each parameter lies below the head: 0 = the head and what follows the last block."""
    names, heads = [n for n, _ in net.named_parameters()], _of_heads(net)
    found = {n: tuple(int(g or 0) for g in m.groups()) for n in names if n not in heads and (m := BLOCK.search(n))}
    order = {block: i for i, block in enumerate(sorted(set(found.values())), 1)}
    top, first = len(order) + 1, next((i for i, n in enumerate(names) if n in found), len(names))
    depth = {n: order[found[n]] if n in found else top if n in heads or i > first else 0 for i, n in enumerate(names)}
    if not order:
        return dict.fromkeys(names, 0)
    return {n: top - d for n, d in depth.items()}


def _of_heads(net: nn.Module) -> set[str]:
    """Names of the parameters of heads: as nets call them or, of a `PretrainedNet`, all that lie outside of its backbone."""
    names = [n for n, _ in net.named_parameters()]
    found = {n for n in names if HEAD.search(n)}
    for prefix, module in net.named_modules():
        if isinstance(module, PretrainedNet):
            inside = f"{prefix}." if prefix else ""
            found -= {n for n in names if n.startswith(inside)}
            found |= {n for n in names if n.startswith(inside) and not n.startswith(f"{inside}{module.BACKBONE}.")}
    return found
