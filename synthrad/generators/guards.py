"""Numbers that are not finite stop a training before they reach its weights, its average or a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from synthrad.errors import RunError
from synthrad.generators.ranks import mean_of_ranks

LEAST_SCALE = 2.0**-10  # of float16 gradients: GradScaler starts at 2^16 and halves it at each overflow
REPAIR = "Repair: resume from the last checkpoint with a lower model.lr (a GAN: or a higher model.r1_gamma)."


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """The norm of all tensors together: NaN or infinite if one number of them is, or is too large to be squared."""
    floats = [t.detach() for t in tensors if t.is_floating_point()]
    shared, own = ([t for t in floats if hasattr(t, "full_tensor") == parts] for parts in (True, False))
    if not shared:
        return torch.nn.utils.get_total_norm(own)
    norm = whole_tensor(torch.nn.utils.get_total_norm(shared))
    return torch.nn.utils.get_total_norm([norm, *own]) if own else norm


def whole_tensor(tensor: Tensor) -> Tensor:
    """A tensor of which each process may have a part (generators.sharding); every process must ask for it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def check_batch(image: Tensor, attributes: Tensor, images_seen: int) -> None:
    """Refuse pictures and attributes that are not finite; a label may be NaN, which is unknown.

    Raises:
        RunError: on every process, also where the bad picture is another one's.
    """
    sums = torch.stack([total_norm([image]), total_norm([attributes]).to(image)])
    if not torch.isfinite(mean_of_ranks(sums)).all():
        bad = ~torch.isfinite(image).flatten(1).all(1)
        where = f"picture {bad.nonzero()[0].item()} of the batch" if bad.any() else "attributes, or another process's pictures"
        raise RunError(f"data: {where} after {images_seen:,} images is not finite; the weights were not updated. "
                       "Repair: look for NaN among the images and the intensity range of the manifest.")


def check_loss(name: str, loss: Tensor, images_seen: int) -> None:
    """Refuse a loss that is not finite.

    Args:
        loss: the mean over all processes, so that all of them stop.

    Raises:
        RunError: names the loss.
    """
    if not torch.isfinite(loss):
        raise RunError(f"{name} is {loss.item()} after {images_seen:,} images; the weights were not updated. {REPAIR}")


def check_gradients(name: str, optimizer: torch.optim.Optimizer, scaler: Any, images_seen: int) -> None:
    """Refuse gradients that are not finite. After the exchange of gradients they are the same on all processes.

    Args:
        scaler: the GradScaler of float16, or None. It skips a step whose gradients overflow and lowers its scale: that
            is no fault until the scale has fallen so low that the overflow cannot be of its making.

    Raises:
        RunError: names the loss that they are of.
    """
    if scaler is not None:
        if scaler.is_enabled() and scaler.get_scale() < LEAST_SCALE:
            raise RunError(f"{name}: the float16 gradient scale has fallen to {scaler.get_scale():g} after {images_seen:,} "
                           f"images: every step was skipped. Use --trainer.precision=bf16-mixed. {REPAIR}")
        return
    norm = total_norm(p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
    if not torch.isfinite(norm):
        raise RunError(f"{name}: its gradient is not finite ({norm.item()}) after {images_seen:,} images; the weights were "
                       f"not updated. {REPAIR}")


def check_weights(net: torch.nn.Module, what: str, images_seen: int) -> None:
    """Refuse a net with a number that is not finite.

    Raises:
        RunError: names the tensor.
    """
    state = net.state_dict()
    if not torch.isfinite(total_norm(state.values())):
        name = next((k for k, v in state.items() if not torch.isfinite(whole_tensor(v)).all()), "a weight too large to be squared")
        raise RunError(f"{what} is not finite after {images_seen:,} images ({name}). {REPAIR}")


def check_checkpoint(checkpoint: Mapping[str, Any]) -> None:
    """Refuse to save weights or optimizer states that are not finite, whatever writes the file.

    Raises:
        RunError: names the tensor; what was saved before is intact.
    """
    for part in ("state_dict", "optimizer_states"):
        for name, tensor in _tensors(checkpoint.get(part, {}), part):
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise RunError(f"checkpoint: {name} is not finite; nothing was written and the checkpoint before is intact. "
                               f"{REPAIR}")


def _tensors(tree: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested mappings and lists, with their names."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, Mapping | list | tuple):
        pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in pairs:
            yield from _tensors(value, f"{name}.{key}")
