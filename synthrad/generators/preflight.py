"""What can be known to be wrong before the first step of a generator is said before it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from synthrad.conditioning import Condition
from synthrad.diffusion.samplers import SAMPLERS
from synthrad.errors import InputError, near
from synthrad.gan.augment import Augment
from synthrad.records import Manifest


def check_same_training(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse to go on with other training images or subjects: the lineage would forget those that were seen before.

    Hashes of subjects of two forms (32 hex digits before there were pseudonyms) are left to the images.

    Raises:
        InputError: two specs whose `fingerprints` or `trained_on` differ.
    """
    for key, what in (("fingerprints", "images"), ("trained_on", "subjects")):
        mine = set(one[key]) ^ set(other[key])
        if mine and (key != "trained_on" or len(set(map(len, mine))) == 1):
            raise InputError(f"checkpoint: {key}", f"{len(mine)} training {what} that only one of checkpoint and data has",
                             f"the same {what} in both (a split made anew, or another project key, changes them)",
                             "give the manifest as it was and the same project folder, or start afresh in a new folder")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse numbers that cannot be meant.

    Raises:
        InputError: names the option.
    """
    least = {"max_images": 1, "r1_every": 1, "path_every": 1, "accumulate": 1, "freeze_d": 0, "r1_gamma": 0, "path_weight": 0,
             "lr": 0, "ema_half_life_images": 0, "ada_speed_images": 1, "warmup_images": 0, "res_blocks": 1, "head_channels": 1, "text_length": 1,
             "text_width": 1, "latent_channels": 1, "codes": 2, "ema_rampup": 0, "channel_max": 1,
             "z_dim": 1, "w_dim": 1, "mapping_depth": 1}
    for name, bound in least.items():
        value = options.get(name)
        if value not in (None, "auto") and not bound <= value < float("inf"):
            raise InputError(f"model.{name}", str(value), f"a finite number of at least {bound}")
    if (levels := options.get("channels")) is not None and not len(levels):
        raise InputError("model.channels", "no level", "feature maps of each level, such as [64, 128]")
    for name in ("style_mixing", "mask_scale", "mask_drop_rate", "label_dropout", "drop_rate", "prompt_drop_rate", "ada_fixed", "ada_target"):
        value = options.get(name)
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"model.{name}", str(value), "a number from 0 to 1")
    if options.get("mask_scale") == 0:
        raise InputError("model.mask_scale", "0", "a number above 0: masks that the discriminator does not see teach nothing",
                         "for images without masks, set data.layers=[]")
    if options.get("min_snr") not in (None, "auto") and not options["min_snr"] > 0:
        raise InputError("model.min_snr", str(options["min_snr"]), "auto, null, or a number above 0")
    if (ramp := options.get("condition_ramp")) is not None and not 0 <= ramp[0] < ramp[1] <= options["max_images"]:
        raise InputError("model.condition_ramp", str(list(ramp)), f"[a, b] with 0 <= a < b <= max_images ({options['max_images']}): "
                         "conditions that never count in full are not learned", "lower b, raise model.max_images, or give null")
    if options.get("freeze_d") and not options.get("init_from"):
        raise InputError("model.freeze_d", f"{options['freeze_d']} without model.init_from", "0 for a discriminator that starts from "
                         "random weights", "name the checkpoint to start from, or set freeze_d to 0")


def check_drawing(drawing: Mapping[str, Any], drop_rate: float, told: bool) -> None:
    """Refuse a way to draw from a diffusion model that cannot be meant.

    Args:
        drawing: sampler, steps, guidance, guidance_interval. drop_rate: share of images that trained without a condition.
        told: whether the model knows labels, attributes or prompts. Guidance steers by them, never by masks.

    Raises:
        InputError: names the option.
    """
    if drawing["sampler"] not in SAMPLERS:
        raise InputError("sampler", repr(drawing["sampler"]), f"one of {', '.join(SAMPLERS)}", near(str(drawing["sampler"]), SAMPLERS))
    if not (isinstance(drawing["steps"], int) and drawing["steps"] >= 1):
        raise InputError("sampler steps", str(drawing["steps"]), "a whole number of at least 1")
    if not 0 <= drawing["guidance"] < float("inf"):
        raise InputError("guidance", str(drawing["guidance"]), "a number of at least 0: 1 = the condition as learned")
    if drawing["guidance"] != 1 and not drop_rate:
        raise InputError("guidance", f"{drawing['guidance']}, and the generator was trained with drop_rate 0", "1: it never drew "
                         "without a condition, and guidance steers away from that", "train with model.drop_rate 0.1, or leave it at 1")
    if drawing["guidance"] != 1 and not told:
        raise InputError("guidance", f"{drawing['guidance']}, and the generator knows no labels and no attributes", "1: there is nothing "
                         "to steer by (masks are always followed)", "leave it out")
    low, high = drawing["guidance_interval"]
    if not 0 <= low <= high <= 1:
        raise InputError("guidance_interval", f"{[low, high]}", "two times in order, from 0 (the picture) to 1 (noise)")


def check_precision(precision: str) -> None:
    """Refuse weights of fewer than 32 bits: pictures, conditions and noise come as float32, and the step would fail on them.

    Args:
        precision: as Trainer.precision names it.

    Raises:
        InputError: bf16-true, 16-true or another one whose weights are no float32 or float64.
    """
    if precision.endswith("-true") and precision not in ("32-true", "64-true"):
        raise InputError("trainer.precision", precision, "32-true, or bf16-mixed or 16-mixed, which keep the weights in float32",
                         "use bf16-mixed for less memory")


def check_compiler(device: torch.device) -> None:
    """Compile something small.

    Raises:
        InputError: torch.compile does not work here.
    """
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(4, device=device))
    except Exception as e:  # torch raises many kinds, by what is missing
        reason = " ".join(str(e).split())[:200]
        raise InputError("model.compile", f"true, and torch.compile fails here ({type(e).__name__}: {reason})",
                         "a C++ compiler on a CPU, Triton on a GPU", "install it, or set model.compile to false") from e


def make_augment(image_channels: int, strengths: Mapping[str, float] | None) -> Augment:
    """The augmentation pipeline of a config's strengths.

    Raises:
        InputError: an unknown transform, a negative strength, or colours of pictures that are not RGB.
    """
    known = [n for n in inspect.signature(Augment.__init__).parameters if n not in ("self", "image_channels")]
    for name, value in (strengths or {}).items():
        if name not in known:
            raise InputError(f"model.augment.{name}", "an unknown transform", f"one of {', '.join(known)}", near(name, known))
        if not 0 <= value < float("inf"):
            raise InputError(f"model.augment.{name}", str(value), "a factor of p: 0 = off, 1 = as often as the paper")
    try:
        return Augment(image_channels, **(strengths or {}))
    except ValueError as e:
        raise InputError("model.augment", str(e), "no hue and no saturation for pictures that are not RGB") from e


def check_data(train: Manifest | None, batch_size: int, processes: int, accumulate: int) -> None:
    """Refuse a batch that cannot be divided into its parts, or that has more images than there are.

    Args:
        train: the training rows, where the datamodule has them as a manifest.

    Raises:
        InputError: names the option.
    """
    if batch_size % accumulate:
        raise InputError("model.accumulate", f"{accumulate} parts of data.batch_size={batch_size}", "a divisor of it",
                         "every part must hold as many images")
    if train is not None and len(train) < batch_size * processes:
        raise InputError("data.batch_size", f"{batch_size} on {processes} process(es), with {len(train)} training images",
                         f"at most {len(train) // processes}: a step must not show an image twice",
                         "lower it, or add training images")


def absent_classes(train: Manifest | None) -> list[str]:
    """Label classes that no training image is known to have; says so in a warning."""
    if train is None or not len(train.info.classes):
        return []
    shown = np.nansum(train.labels, axis=0)
    absent = [c for c, n in zip(train.info.classes, shown, strict=True) if not n]
    if absent:
        warnings.warn(f"no training image is known to have {', '.join(map(repr, absent))}: the generator cannot learn to draw "
                      "it, and `synthrad sample` will refuse to ask for it", stacklevel=2)
    return absent


def check_asked(condition: Condition, spec: Mapping[str, Any]) -> None:
    """Refuse to draw a class that the generator has never seen.

    Raises:
        InputError: names the class.
    """
    for name in spec.get("absent", []):  # older checkpoints do not say
        if condition.labels is None:
            continue
        if n := int((np.asarray(condition.labels)[:, spec["classes"].index(name)] == 1).sum()):
            raise InputError(f"condition: label {name!r}", f"1 in {n} condition(s)", "0 or unknown: no image that the generator was "
                             "trained on was known to have it", "leave it out (synthrad sample: --conditions with a .csv without "
                             "it), or train a generator on images that have it")
