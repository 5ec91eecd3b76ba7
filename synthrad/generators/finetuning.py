"""Training that starts from a generator of another dataset: what fits is kept, what is new starts at random.

Parts that differ between two datasets are the inputs for labels and attributes, and the channels of the pictures. They
are matched by name: a label, an attribute's value or a mask structure that both have keeps its weights.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from synthrad.errors import InputError
from synthrad.generators.loading import load_generator
from synthrad.lineage import Lineage

KEY = "model.init_from"
WIDTHS = ("channel_base", "channel_max", "z_dim", "w_dim", "mapping_depth", "mask_scale")
NETS = ("generator", "generator_ema", "discriminator")


@dataclass(frozen=True)
class Start:
    """How a training started from another one, as it stays in its checkpoints.

    Args:
        digest: SHA-256 of the checkpoint that it started from.
        whole_input: the discriminator's first layer was kept whole, so that it can be frozen.
    """

    digest: str
    whole_input: bool


def start_from(model: nn.Module, path: str) -> tuple[Start, Lineage]:
    """Take over the weights of a checkpoint, in place, and say what was kept.

    Args:
        model: a StyleGAN2 whose nets were just built for its own data.

    Returns:
        what its checkpoints must remember, and the lineage of the weights.

    Raises:
        InputError: no such file, another kind of generator, another size or width, or weights that are not finite.
    """
    if not Path(path).is_file():
        raise InputError(KEY, f"no file {path!r}", "null or the checkpoint of a StyleGAN2", "correct the path")
    source, info, lineage, spec = load_generator(path)
    if type(source) is not type(model):
        raise InputError(KEY, f"a {type(source).__name__}", f"a {type(model).__name__}", "name a checkpoint of the same class")
    if list(spec["size"]) != list(model.spec["size"]):
        raise InputError(f"{KEY} {path}", f"pictures of {spec['size']}", f"{model.spec['size']}, as data.size has it",
                         "set data.size to that of the checkpoint, or start from one of the same size")
    if differing := [k for k in WIDTHS if source.hparams[k] != model.hparams[k]]:
        found = ", ".join(f"{k}={source.hparams[k]}" for k in differing)
        raise InputError(f"{KEY} {path}", found, ", ".join(f"model.{k}={model.hparams[k]}" for k in differing),
                         "give this model the width of the checkpoint")
    model.spec["rates"] = shared_rates(model.spec, spec)
    pairs = _Pairs(model, source)
    kept = {name: _take_over(name, getattr(model, name), getattr(source, name), pairs, f"{KEY} {path}") for name in NETS}
    model.path_mean.copy_(source.path_mean)
    whole = "from_image.weight" in kept["discriminator"]
    if int(getattr(model, "global_rank", 0)) == 0:
        total, number = sum(len(getattr(model, n).state_dict()) for n in NETS), sum(len(k) for k in kept.values())
        print(f"StyleGAN2: starts from {path} (dataset {info.name!r}): {number} of {total} tensors kept whole; {pairs}", flush=True)
    *before, own = lineage.fitted
    return Start(own.digest, whole), Lineage((*before, replace(own, kind="weights")))


def frozen_parts(discriminator: nn.Module, freeze_d: int, whole_input: bool) -> list[nn.Module]:
    """The first layers of a discriminator, those of the highest resolution, that stay as they are (Mo et al. 2020, FreezeD).

    Args:
        freeze_d: residual blocks to freeze. The layer before them, which reads the channels, is frozen with them if
            `whole_input`: all of its weights were kept.

    Raises:
        InputError: more blocks than there are.
    """
    blocks = list(discriminator.blocks)
    if freeze_d > len(blocks):
        raise InputError("model.freeze_d", str(freeze_d), f"at most {len(blocks)}, the blocks of a discriminator of this size")
    return [discriminator.from_image] * bool(freeze_d and whole_input) + blocks[:freeze_d]


def shared_rates(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[float] | None:
    """The rates that conditions are standardised by from now on: the source's for what both know, as its weights learned them.

    None where the source learned raw conditions.
    """
    if theirs.get("rates") is None or own.get("rates") is None:
        return None
    known, fresh = (dict(zip([n for n in condition_columns(s) if n[0] != "is known:"], s["rates"], strict=True)) for s in (theirs, own))
    return [known.get(name, rate) for name, rate in fresh.items()]


def condition_columns(spec: Mapping[str, Any]) -> list[Hashable]:
    """A name for each entry of nets.encoding.encode_condition's vectors."""
    labels = [(kind, c) for kind in ("label", "is known:") for c in spec["classes"]]
    return [*labels, *((a, v) for a, values in spec["attributes"].items() for v in values)]


def channels(spec: Mapping[str, Any], encoding: str, by_place: bool) -> list[Hashable]:
    """A name for each channel of a picture; image channels by their place where both datasets have as many."""
    image = [("image channel", i if by_place else name) for i, name in enumerate(spec["channels"])]
    if encoding == "scalar":
        return [*image, *(("mask", layer, *structures) for layer, structures in spec["layers"].items())]
    return [*image, *(("mask", layer, s) for layer, structures in spec["layers"].items() for s in ("background", *structures))]


class _Pairs:
    """Which entries of the new tensors are which of the old ones."""

    def __init__(self, model: nn.Module, source: nn.Module):
        new, old = model.spec, source.spec
        by_place = len(new["channels"]) == len(old["channels"])
        self.conditions = (condition_columns(new), condition_columns(old))
        self.channels = (channels(new, model.hparams.mask_encoding, by_place), channels(old, source.hparams.mask_encoding, by_place))
        # a generator that is given masks draws the image channels alone, and reads the others
        (drawn, read), (old_drawn, old_read) = _split(self.channels[0], model.wants_masks), _split(self.channels[1], source.wants_masks)
        self.drawn, self.given = (drawn, old_drawn), (read, old_read)
        # inputs of the first layer of the generator's mapping network: z, then the embedded condition, if there is one
        z, embedded = ([(what, i) for i in range(model.hparams[dim])] for what, dim in (("z", "z_dim"), ("condition", "w_dim")))
        self.mapped = tuple(z + embedded * bool(c) for c in self.conditions)

    def of(self, net: str, key: str) -> tuple[int, list[Hashable], list[Hashable], bool] | None:
        """The axis of a tensor that is matched, its names on either side, and whether the layer divides by its length."""
        if key == "mapping.embed.weight":
            return 1, *self.conditions, True
        if key == "mapping.layers.0.weight" and net != "discriminator":
            return 1, *self.mapped, True
        if key.startswith("to_image.") and key.endswith((".weight", ".bias")) and "affine" not in key:
            return 0, *self.drawn, False
        if key.endswith("by_mask.hidden.weight"):
            return 1, *self.given, True
        if key == "from_image.weight":
            return 1, *self.channels, True
        return None

    def __str__(self) -> str:
        said = []
        for what, (new, old) in (("condition", self.conditions), ("picture", self.channels)):
            fresh, left = ([_spoken(k) for k in a if k not in b and k[0] != "is known:"] for a, b in ((new, old), (old, new)))
            said.append(f"{what}: {', '.join(fresh) or 'nothing'} re-initialised" + (f", {', '.join(left)} left behind" if left else ""))
        if bool(self.conditions[0]) != bool(self.conditions[1]):
            said.append("the discriminator's last layer re-initialised: it differs with and without a condition")
        if bool(self.given[0]) != bool(self.given[1]):
            said.append("the layers that read a given mask " + ("re-initialised" if self.given[0] else "left behind"))
        return "; ".join(said)


def _split(names: Sequence[Hashable], given: bool) -> tuple[list[Hashable], list[Hashable]]:
    """The channels that a generator draws, and those that it is given."""
    read = [n for n in names if given and n[0] == "mask"]
    return [n for n in names if n not in read], read


def _spoken(name: Hashable) -> str:
    return " ".join(str(part) for part in name)


def _take_over(name: str, net: nn.Module, source: nn.Module, pairs: _Pairs, where: str) -> list[str]:
    """Copy what fits into `net`; returns the names of the tensors that were kept whole."""
    own, theirs, kept = net.state_dict(), source.state_dict(), []
    for key, tensor in own.items():
        if key not in theirs:
            continue  # a mapping of conditions that the source had none of
        if not torch.isfinite(theirs[key]).all():
            raise InputError(where, f"{key} is not finite", "whole weights", "start from an earlier checkpoint")
        matched = pairs.of(name, key)
        if matched is None and tensor.shape == theirs[key].shape:
            tensor.copy_(theirs[key])
            kept.append(key)
        elif matched is not None:
            axis, new, old, divides = matched
            if _copy_matched(tensor, theirs[key], axis, new, old, divides):
                kept.append(key)
        elif not key.startswith("out."):  # the last layer differs with and without a condition
            raise InputError(where, f"{key} of shape {tuple(theirs[key].shape)}", str(tuple(tensor.shape)), "a checkpoint of this model")
    return kept


def _copy_matched(own: Tensor, theirs: Tensor, axis: int, new: Sequence[Hashable], old: Sequence[Hashable], divides: bool) -> bool:
    """Copy the entries along `axis` whose names both sides have; whether that was all of them.

    A layer of equalized learning rate divides by the root of the number of its inputs: where that number changes,
    the stored weights must, for the same weights in use.
    """
    places = [(i, old.index(name)) for i, name in enumerate(new) if name in old]
    if places:
        mine, other = (torch.tensor(p) for p in zip(*places, strict=True))
        gain = math.sqrt(len(new) / len(old)) if divides else 1.0
        own.index_copy_(axis, mine.to(own.device), (theirs.index_select(axis, other) * gain).to(own))
    return list(new) == list(old)
