"""Models of the transformers library from folders and files in the hub's format, or from settings alone; nothing is ever downloaded.

A folder holds config.json and model.safetensors (or its parts, or an older pytorch_model.bin); what preprocessor_config.json says of pictures is folded
into the first convolution, so that every net takes pictures in [-1, 1] of any number of channels. Code that comes with a model is never run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthrad.errors import InputError, near
from synthrad.nets.loading import cached, fit_channels, load_plain, local_path, unless_null

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Pixels = Literal["standardised", "plain"]  # as mean 0 and deviation 1 by colour; from 0 to 1
UNUSED = ("pooler", "mask_token", "position_ids")  # parts that files may lack: no net here reads them
PICTURES = ("num_channels", "image_size", "patch_size")  # settings of models that see pictures, one or more of them
NAMES_SHOWN = 5


def load_model(kind: str | Mapping[str, str], weights: str | None, settings: Mapping[str, Any] | None, channels: int, key: str = "model.net",
               fresh: Sequence[str] = (), state: dict[str, Tensor] | None = None, pixels: Pixels | None = None) -> nn.Module:
    """A model of the transformers library that takes pictures [B, channels, H, W] in [-1, 1].

    Args:
        kind: "AutoModel" (the plain model of the settings' model_type), a class of transformers, such as SamModel, or classes by the model_types
            that they read.
        weights: null (random), a folder in the hub's format, a file of weights (with config.json beside it, or settings), or a hub id in the local cache.
        settings: of the model's config (nested as config.json is), over those of the folder; all there is where weights are null or a file alone.
        key: of the net in the config, for errors: its weights are `key`.weights.
        fresh: patterns (re.search) of names that may lack weights, or have those of other shapes, and are random then; all others must have them.
        state: what the file of weights holds, by the library's names, where another program wrote it: each tensor must belong to the model.
        pixels: that the weights were trained on; None = as preprocessor_config.json says, standardised where there is none.

    Raises:
        InputError: says what was looked for, or names the layers whose shapes differ or that the file lacks.
    """
    weights = unless_null(weights)
    path = None if weights is None else source_of(weights, f"{key}.weights")
    folder = None if path is None else path if path.is_dir() else path.parent
    cls, config = _class_and_config(kind, _said(folder, "config.json", f"{key}.weights {weights}"), settings or {}, key)
    if path is None:
        config = _with_channels(config, channels)
        return cls(config)
    net = _with_weights(cls, config, path, f"{key}.weights {weights}", (*UNUSED, *fresh), state)
    said = _said(folder, "preprocessor_config.json", f"{key}.weights {weights}")
    plain = not said.get("do_normalize", True) if pixels is None else pixels == "plain"
    mean = [0.0] * 3 if plain else said.get("image_mean", IMAGENET_MEAN)
    sd = [1.0] * 3 if plain else said.get("image_std", IMAGENET_SD)
    fit_input(net, channels, mean, sd, before=_channels_of(config))
    return net


def source_of(weights: str, key: str) -> Path:
    """The folder or file of a local path or of a hub id that is in the local cache already.

    Raises:
        InputError: neither; names the key, the id, and how to fetch it.
    """
    path = local_path(weights)
    if path.exists():
        return path
    return cached(weights, key, ["config.json"], "config.json and model.safetensors",
                  "null, a folder with config.json and model.safetensors, a weights file, or a hub id owner/name").parent


def _said(folder: Path | None, name: str, where: str) -> dict[str, Any]:
    if folder is None or not (folder / name).is_file():
        return {}
    try:
        said = json.loads((folder / name).read_text())
    except ValueError as e:
        raise InputError(where, f"{name} that is no JSON ({e})", "the file as it was published", "download it again") from e
    if not isinstance(said, dict):
        raise InputError(where, f"{name} that holds a {type(said).__name__}", "names and values", "download it again")
    return said


def _class_and_config(kind: str | Mapping[str, str], said: Mapping[str, Any], settings: Mapping[str, Any], key: str) -> tuple[type, Any]:
    """The class, and its config of what the folder says with the settings over it."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

    given = merged(said, settings)
    if not isinstance(kind, str):
        model_type = given.pop("model_type", None)
        if not isinstance(model_type, str) or model_type not in kind:
            raise InputError(f"{key}.settings", "no model_type" if model_type is None else f"model_type {model_type!r}",
                             f"{' or '.join(kind)}, in the settings or in config.json beside the weights")
        kind = kind[model_type]
    if kind != "AutoModel":
        cls = getattr(transformers, kind)
        config = cls.config_class
    else:
        model_type = given.get("model_type")
        if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING_NAMES:
            raise InputError(f"{key}.settings", "no model_type" if model_type is None else f"model_type {model_type!r}",
                             "a model_type of the transformers library, in the settings or in config.json beside the weights",
                             near(str(model_type), CONFIG_MAPPING_NAMES) if model_type else "such as dinov2")
        config = CONFIG_MAPPING[model_type]
        cls = transformers.AutoModel._model_mapping.get(config, None)
        if cls is None or isinstance(cls, tuple):
            raise InputError(f"{key}.settings", f"model_type {model_type!r}", "one that has one plain model", "choose another")
    _check_settings(config, settings, f"{key}.settings")
    try:
        return cls, config.from_dict(given)
    except Exception as e:  # the library raises many kinds
        raise InputError(f"{key}.settings", f"{type(e).__name__}: {' '.join(str(e).split())[:200]}", f"settings of {config.__name__}") from e


def _check_settings(cls: type, settings: Mapping[str, Any], key: str) -> None:
    """Refuse, before anything is built, a model that sees no pictures, and settings that it would ignore.

    Raises:
        InputError: names the model_type, or the key.
    """
    try:
        known = cls()
    except Exception:  # a config of parts that must be given: the library checks them
        return
    if not _sees_pictures(known.to_dict()):
        raise InputError(key, f"model_type {cls.model_type!r}, which sees no pictures", "a vision model of the transformers library", "such as dinov2")
    _check_known(known, settings, key)


def _sees_pictures(said: Mapping[str, Any]) -> bool:
    return any(k in said for k in PICTURES) or any(_sees_pictures(v) for v in said.values() if isinstance(v, Mapping))


def _check_known(config: Any, settings: Mapping[str, Any], key: str) -> None:
    for name, value in settings.items():
        if not hasattr(config, name):
            raise InputError(f"{key}.{name}", repr(value), f"a setting of {type(config).__name__}", near(name, config.to_dict()) or "take it out")
        part = getattr(config, name)
        if isinstance(value, Mapping) and hasattr(part, "to_dict"):
            _check_known(part, value, f"{key}.{name}")


def merged(said: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings over those that are said, also inside of parts."""
    out = dict(said)
    for k, v in settings.items():
        out[k] = merged(out.get(k) or {}, v) if isinstance(v, Mapping) else v
    return out


def _of_pictures(config: Any) -> Iterator[Any]:
    """The configs, from the outer to the inner, that name a number of channels."""
    while config is not None:
        if hasattr(config, "num_channels"):
            yield config
        config = getattr(config, "vision_config", None) or getattr(config, "backbone_config", None)


def _channels_of(config: Any) -> int:
    return next((c.num_channels for c in reversed(list(_of_pictures(config)))), 3)


def _with_channels(config: Any, channels: int) -> Any:
    for part in _of_pictures(config):
        part.num_channels = channels
    return config


def _with_weights(cls: type, config: Any, path: Path, where: str, fresh: Sequence[str], state: dict[str, Tensor] | None) -> nn.Module:
    """A model with the weights of a folder or file: every name that is not fresh, in the shapes of the config."""
    given: dict[str, Any] = {"state_dict": load_plain(path) if state is None else state} if path.is_file() else {}
    try:
        with _quiet():
            net, info = cls.from_pretrained(None if given else path, config=config, output_loading_info=True, local_files_only=True, dtype=torch.float32,
                                            ignore_mismatched_sizes=True, **given)
    except Exception as e:  # the library raises many kinds
        raise InputError(where, f"{type(e).__name__}: {' '.join(str(e).split())[:200]}", f"weights of {cls.__name__} in the hub's format: config.json and "
                         "model.safetensors", "download it again, or give another folder") from e
    wrong = [f"{k}: file {tuple(theirs)}, net {tuple(mine)}" for k, theirs, mine in info["mismatched_keys"] if not any(re.search(f, k) for f in fresh)]
    lost = [k for k in sorted(info["missing_keys"]) if not any(re.search(f, k) for f in fresh)]
    if wrong or lost:
        shown = "; ".join(sorted(wrong)[:NAMES_SHOWN]) + (f"; missing {lost[:NAMES_SHOWN]}" if lost else "")
        raise InputError(where, f"{len(wrong)} shapes that differ and {len(lost)} names missing: {shown}", f"the weights of this {cls.__name__}",
                         "give the config.json that belongs to them, or the settings that they were trained with")
    if state is not None and (strange := sorted(info["unexpected_keys"])):
        raise InputError(where, f"{len(strange)} names that are none of {cls.__name__}: {strange[:NAMES_SHOWN]}", f"the weights of {cls.__name__} alone",
                         "adapters and other additions of a checkpoint cannot be left out in silence: give one without them")
    return net


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's bars and tables: what is wrong with a file is said in one error."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@torch.no_grad()
def fit_input(net: nn.Module, channels: int, mean: Sequence[float], sd: Sequence[float], before: int = 3) -> None:
    """Let a net that was trained on standardised pictures take pictures in [-1, 1] of another number of channels.

    The first convolution with `before` input channels gets kernels and a bias that do both: with p = (x + 1) / 2, of (p - mean) / sd. One channel gets the
    sum of the kernels, so that a grey picture gives what its three equal colours gave (where the convolution pads: but for a border of the padding's
    width, which then stands for mid-grey).

    Args:
        mean, sd: of each of the `before` channels, of pixels in [0, 1].

    Raises:
        InputError: not one mean and deviation a channel, or no such convolution.
    """
    conv = next((m for m in net.modules() if isinstance(m, nn.Conv2d) and m.in_channels == before and m.groups == 1), None)
    if conv is None:
        raise InputError("model.net.weights", f"no convolution of {before} channels in {type(net).__name__}", "a net whose pictures pass one first")
    if len(mean) != before or len(sd) != before or min(sd) <= 0:
        raise InputError("model.net.weights", f"image_mean {list(mean)} and image_std {list(sd)}", f"{before} numbers each, image_std above 0",
                         "correct preprocessor_config.json beside the weights")
    middle, scale = (torch.tensor(v, dtype=conv.weight.dtype).view(1, -1, 1, 1) for v in (mean, sd))
    shift = (conv.weight * (0.5 - middle) / scale).sum((1, 2, 3))
    conv.weight = nn.Parameter(fit_channels(conv.weight / (2 * scale), channels) if channels != before else conv.weight / (2 * scale))
    if shift.abs().max() > 0:
        conv.bias = nn.Parameter(shift if conv.bias is None else conv.bias + shift)
    conv.in_channels = channels
    for module in net.modules():  # the library's own checks of what it is given
        if getattr(module, "num_channels", None) == before and isinstance(module.num_channels, int):
            module.num_channels = channels
    if hasattr(net, "config"):
        _with_channels(net.config, channels)


def resized_positions(table: Tensor, grid: Sequence[int]) -> Tensor:
    """Learned embeddings of places [1, h, w, d] on another grid, [1, *grid, d]; bicubic, unchanged on their own."""
    if tuple(table.shape[1:3]) == tuple(grid):
        return table
    moved = F.interpolate(table.permute(0, 3, 1, 2).float(), tuple(grid), mode="bicubic", align_corners=False, antialias=False)
    return moved.permute(0, 2, 3, 1).to(table.dtype)
