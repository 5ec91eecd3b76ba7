"""Weights of any checkpoint as a plain state dict: Lightning, safetensors or torch.save of a state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from synthrad.checkpoints import check_bytes, read_checkpoint
from synthrad.errors import InputError

WRAPPERS = ("_orig_mod.", "module.", "model.", "net.")  # torch.compile, DDP, other people's modules, our tasks
HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
HUB_FILES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")


def unless_null(text: str | None) -> str | None:
    """The text; None where it is how a command line spells null."""
    return None if text in ("None", "null", "") else text


def local_path(weights: str) -> Path:
    """The path that weights may name; `~` is the home folder where there is one of that user."""
    try:
        return Path(weights).expanduser()
    except RuntimeError:  # ~nobody
        return Path(weights)


def locate(weights: str, key: str) -> Path:
    """The file of a local path (or in a local folder) or of a hub id that is in the local cache already; nothing is ever downloaded.

    Args:
        weights: a file, a folder that holds one under the hub's names, or `owner/name` of the Hugging Face hub.
        key: the config key to name in an error.

    Raises:
        InputError: none of these.
    """
    path = local_path(weights)
    if path.is_dir():
        if (found := next((path / name for name in HUB_FILES if (path / name).is_file()), None)) is None:
            raise InputError(key, f"folder {str(path.absolute())!r} without weights", f"one of {', '.join(HUB_FILES)} in it", "name the file itself")
        return found
    if path.is_file():
        return path
    return cached(weights, key, HUB_FILES, f"one of {', '.join(HUB_FILES)}", "null, a weights file, a folder with one, or a hub id owner/name")


def cached(weights: str, key: str, names: Sequence[str], wanted: str, expected: str) -> Path:
    """The first of some files of a hub id in the local cache.

    Args:
        weights: what is no local path. names: of the files. wanted: the files, in words. expected: what the key takes.

    Raises:
        InputError: no hub id, or one whose files are not here: how to fetch it, its licence, and the key to set.
    """
    path = local_path(weights)
    if path.suffix in SUFFIXES or not HUB_ID.match(weights):
        raise InputError(key, f"no file or folder {str(path.absolute())!r}", expected, f"put it there or set {key} to null (random weights)")
    from huggingface_hub import constants, try_to_load_from_cache

    for name in names:
        found = try_to_load_from_cache(weights, name)
        if isinstance(found, str):
            return Path(found)
    raise InputError(key, f"hub id {weights!r}, which is not in the cache {constants.HF_HUB_CACHE} (nor a path from {Path.cwd()})",
                     f"{wanted} of https://huggingface.co/{weights}",
                     f"read its licence there (some have to be accepted first), run `hf download {weights} --local-dir FOLDER` where there is a network and "
                     f"set {key} to FOLDER or the file in it, or to null (random weights)")


def load_plain(checkpoint: Path | str) -> dict[str, Tensor]:
    """The state dict of a checkpoint, without the prefixes that wrappers add.

    Reads Lightning checkpoints, safetensors and plain state dicts; never unpickles code (weights_only).

    Raises:
        InputError: no such file, or not a file of weights.
    """
    path = Path(checkpoint)
    if not path.is_file():
        raise InputError(str(path), "no such file", "a checkpoint (.ckpt, .pt, .pth, .bin or .safetensors)")
    try:
        if path.suffix == ".safetensors":
            check_bytes(path)
            from safetensors.torch import load_file

            raw = load_file(path)
        else:
            raw = read_checkpoint(path)
    except InputError:
        raise
    except Exception as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise InputError(str(path), f"a file that cannot be read as weights ({reason})",
                         "a Lightning checkpoint, a state dict or safetensors, whole and without pickled objects",
                         "save it again as safetensors or with torch.save(net.state_dict(), path)") from e
    for inner in ("state_dict", "model_state_dict", "model"):
        if isinstance(raw, Mapping) and isinstance(raw.get(inner), Mapping):
            raw = raw[inner]
    state = {k: v for k, v in raw.items() if isinstance(v, Tensor)} if isinstance(raw, Mapping) else {}
    if not state:
        raise InputError(str(path), "no tensors", "a state dict: names and tensors")
    return _without_wrappers(state)


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip prefixes that the net's tensors share; a task's own buffers beside them are dropped."""
    nets = {k: v for k, v in state.items() if k.startswith("net.")}
    if nets:
        state = nets
    while (prefix := next((w for w in WRAPPERS if all(k.startswith(w) for k in state)), None)) is not None:
        state = {k[len(prefix):]: v for k, v in state.items()}
    return state


def fit_channels(weight: Tensor, channels: int) -> Tensor:
    """A first convolution's kernel [O, I, h, w] for another number of input channels.

    One channel gets the sum of the kernels; more get them in rotation, scaled by I / channels, so that a grey
    image gives the response that its grey RGB copy gave.
    """
    before = weight.shape[1]
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    index = torch.arange(channels) % before
    return weight[:, index] * (before / channels)


def load_into(net: nn.Module, state: Mapping[str, Tensor], where: str, part: str = "encoder") -> list[str]:
    """Load weights into a net or, where only they fit, into its `part`.

    Convolutions that take the picture are adapted to the net's channels (the first one, and those beside it that differ in just the same numbers of
    channels); a head of another number of classes keeps its fresh weights. Everything else must fit.

    Returns:
        Names of the tensors that kept their fresh weights (the head).

    Raises:
        InputError: names the layers whose shapes differ, or says that no name fits.
    """
    target: nn.Module = net
    own = net.state_dict()
    inner = getattr(net, part, None)
    if isinstance(inner, nn.Module) and not (set(state) & set(own)):
        target, own = inner, inner.state_dict()
    shared = [k for k in own if k in state]
    if len(shared) < 0.5 * len(own):
        raise InputError(where, f"weights of another net: {len(shared)} of {len(own)} names fit; first names "
                         f"{list(state)[:3]}", f"names such as {list(own)[:3]}", "name the architecture that they were trained with")
    first = next((k for k in own if own[k].ndim == 4), None)
    of_picture = None if state.get(first) is None or state[first].ndim != 4 else (own[first].shape[1], state[first].shape[1])
    heads = {k for k in own if re.search(r"(^|\.)(segmentation_head|head|fc|classifier|last_linear)\.", k)}
    usable, wrong = {}, []
    for k in shared:
        mine, theirs = own[k], state[k]
        if mine.ndim == theirs.ndim == 4 and mine.shape[0] == theirs.shape[0] and mine.shape[2:] == theirs.shape[2:] \
                and mine.shape[1] != theirs.shape[1] and (mine.shape[1], theirs.shape[1]) == of_picture:
            theirs = fit_channels(theirs, mine.shape[1])
        if mine.shape == theirs.shape:
            usable[k] = theirs
        elif k not in heads:
            wrong.append(f"{k}: file {tuple(theirs.shape)}, net {tuple(mine.shape)}")
    lost = [k for k in own if k not in state and k not in heads and not k.endswith("num_batches_tracked")]
    if wrong or lost:
        shown = "; ".join(wrong[:5]) + (f"; missing {lost[:5]}" if lost else "")
        raise InputError(where, f"{len(wrong)} shapes that differ and {len(lost)} names missing: {shown}",
                         "the weights of this architecture", "name the architecture that they were trained with")
    target.load_state_dict(usable, strict=False)
    return sorted(set(own) - set(usable))
