"""Trained nets as feature spaces: pictures in [-1, 1] to rows in which sets of pictures are compared.

Weights are given by a local file or folder and never fetched; random ones are refused. One channel is shown to a net of RGB three times;
three channels are taken for red, green and blue; of any other number each channel is shown alone, and their rows stand side by side.
Pictures are squeezed or stretched to the net's square (bilinear, antialiased), then brought to the mean and standard deviation that it was trained with.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthrad.errors import InputError
from synthrad.nets.loading import load_into, load_plain, locate

AT_ONCE = 32
HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CMMD_SIGMA = 10.0  # for rows of length 1 (Jayasumana et al., 2024)
HUB_SECONDS = 5.0  # for the hub to answer at all


class NetFeatures(nn.Module):
    """A frozen net with what its pictures go through.

    Args:
        net: [n, 3, size, size] to [n, d]. size: pixels of a side. mean, sd: of each colour, for pixels in [0, 1].
        unit: give every row length 1, as CMMD does.
    """

    scaled = False  # rows are compared as the net gives them: published distances are of such

    def __init__(self, net: nn.Module, size: int, mean: Sequence[float], sd: Sequence[float], unit: bool = False):
        super().__init__()
        if len(mean) != 3 or len(sd) != 3 or min(sd) <= 0:
            raise InputError("mean and sd", f"{list(mean)} and {list(sd)}", "three numbers each, sd above 0")
        if size < 16:
            raise InputError("size", str(size), "at least 16 pixels")
        self.net, self.size, self.unit = net.eval().requires_grad_(False), int(size), bool(unit)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(3, 1, 1))
        self.register_buffer("sd", torch.tensor(sd, dtype=torch.float32).reshape(3, 1, 1))

    @property
    def name(self) -> str:
        """For tables."""
        return type(self).__name__.removesuffix("Features")

    @property
    def sigma(self) -> float | None:
        """Of CMMD's kernel; None = to be taken from the data."""
        return CMMD_SIGMA if self.unit else None

    @property
    def identity(self) -> str:
        """SHA-256 of the weights, the code and what pictures go through: equal ones give equal rows."""
        code = inspect.getsource(sys.modules[__name__])
        found = hashlib.sha256(json.dumps([code, type(self).__name__, str(self.net), self.size, self.unit]).encode())
        for key, value in sorted(self.state_dict().items()):
            found.update(key.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def train(self, mode: bool = True) -> NetFeatures:
        """Stays in evaluation: a feature space must not depend on the batch."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """float32 [n, d] of [n, C, H, W] in [-1, 1]."""
        if images.ndim != 4 or not images.shape[1]:
            raise InputError("images", f"shape {tuple(images.shape)}", "[n, C, H, W]")
        return torch.cat([self._rows(part) for part in images.split(AT_ONCE)]) if len(images) else images.new_zeros(0, 0)

    def _rows(self, images: Tensor) -> Tensor:
        colours = [images] if images.shape[1] == 3 else [images[:, c : c + 1].expand(-1, 3, -1, -1) for c in range(images.shape[1])]
        rows = torch.cat([self.net(self.prepared(c)).float().flatten(1) for c in colours], 1)
        return F.normalize(rows) if self.unit else rows

    def prepared(self, images: Tensor) -> Tensor:
        """[n, 3, H, W] in [-1, 1] as the net takes them."""
        square = F.interpolate(images.float(), (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        return ((square.clamp(-1, 1) + 1) / 2 - self.mean) / self.sd


class InceptionFeatures(NetFeatures):
    """The 2048 columns before the head of torchvision's Inception v3, in the place of FID's.

    torchvision's weights (`torch.save(torchvision.models.inception_v3(weights="IMAGENET1K_V1").state_dict(), PATH)`) are not those of the
    2015 TensorFlow graph that published FIDs use: distances cannot be set beside published ones.

    Args:
        weights: file of a state dict of torchvision.models.inception_v3. size, mean, sd: of its pictures.
    """

    def __init__(self, weights: str, size: int = 299, mean: Sequence[float] = HALF, sd: Sequence[float] = HALF):
        from torchvision.models import inception_v3

        net = inception_v3(weights=None, init_weights=False, aux_logits=False, transform_input=False)
        given = load_plain(_file(weights, "init_args.weights"))
        _load_all(net, {k: v for k, v in given.items() if not k.startswith("AuxLogits.")}, f"init_args.weights {weights}", head="fc.")
        net.fc = nn.Identity()
        super().__init__(net, size, mean, sd)


class TimmFeatures(NetFeatures):
    """What any timm net shows its head: pooled features.

    Args:
        model: of timm, such as resnet50 or vit_base_patch16_224. weights: file of its state dict, or a hub id in the local cache.
        size, mean, sd: of its pictures; None = as timm says of the model. unit: rows of length 1.
    """

    def __init__(self, model: str, weights: str, size: int | None = None, mean: Sequence[float] | None = None, sd: Sequence[float] | None = None,
                 unit: bool = False):
        import timm

        if not timm.is_model(model):
            raise InputError("init_args.model", repr(model), "a timm model (timm.list_models())")
        state = load_plain(_found(weights))
        net = timm.create_model(model, pretrained=False, num_classes=0)
        _load_all(net, state, f"init_args.weights {weights}", head=("head.", "fc.", "classifier.", "last_linear."))
        said = net.pretrained_cfg
        super().__init__(net, size or said.get("input_size", (3, 224, 224))[-1], mean or said.get("mean", IMAGENET_MEAN),
                         sd or said.get("std", IMAGENET_SD), unit)


class TransformersFeatures(NetFeatures):
    """A vision net of the transformers library: the image embedding of a model of images and text (CLIP, SigLIP), else the pooled output, else the
    mean over the places of the last layer.

    Args:
        folder: of a model as `save_pretrained` writes it, or a hub id. size, mean, sd: of its pictures; None = as the folder says.
        unit: rows of length 1, as CMMD takes those of CLIP.
    """

    def __init__(self, folder: str, size: int | None = None, mean: Sequence[float] | None = None, sd: Sequence[float] | None = None, unit: bool = False):
        config, net, fresh, pictures = _load_vision(folder)
        config = getattr(config, "vision_config", config)
        side = size or getattr(config, "image_size", None) or 224
        super().__init__(_Pooled(net, fresh), int(side if isinstance(side, int) else side[0]), mean or pictures.get("image_mean", IMAGENET_MEAN),
                         sd or pictures.get("image_std", IMAGENET_SD), unit)


class _Pooled(nn.Module):
    """The one row of a picture that a model of the transformers library gives."""

    def __init__(self, net: nn.Module, fresh: Sequence[str]):
        super().__init__()
        self.net = net
        self.pooler = not any("pooler" in k for k in fresh)  # a head that the file lacks is random

    def forward(self, pixels: Tensor) -> Tensor:
        """[n, 3, H, W] to [n, d]."""
        if hasattr(self.net, "get_image_features"):
            found = self.net.get_image_features(pixel_values=pixels)
            return found if isinstance(found, Tensor) else found.pooler_output
        found = self.net(pixel_values=pixels)
        if self.pooler and getattr(found, "pooler_output", None) is not None:
            return found.pooler_output.flatten(1)
        last = found.last_hidden_state
        return last.mean(1) if last.ndim == 3 else last.flatten(2).mean(2)


def _file(weights: str, key: str) -> Path:
    path = Path(str(weights)).expanduser()
    if not path.is_file():
        raise InputError(key, f"no file {str(weights)!r}", "a file of weights", "nothing is fetched: copy it there, or use --features radiomics, which needs none")
    return path


def _found(weights: str) -> Path:
    """A file, or that of a hub id in the local cache; there are no random weights here, as there are for nets that will be trained."""
    try:
        return locate(str(weights), "init_args.weights")
    except InputError as e:
        raise InputError(e.where, e.found, "a weights file, or a hub id owner/name that is in the local cache",
                         "nothing is fetched: copy it there, or use --features radiomics, which needs none") from e


def _load_all(net: nn.Module, state: dict[str, Tensor], where: str, head: str | tuple[str, ...]) -> None:
    """Weights of every layer but the head: a layer that kept random weights would make every distance a fiction."""
    fresh = [k for k in load_into(net, state, where) if not k.startswith(head) and not k.endswith("num_batches_tracked")]
    if fresh:
        raise InputError(where, f"no weights for {', '.join(fresh[:3])}", "all weights of this net", "name the architecture that they were trained with")


def _load_vision(name: str) -> tuple[Any, nn.Module, list[str], dict[str, Any]]:
    """Config, model, names that kept random weights, and what is said of pictures: from this machine if it is here, else fetched.

    The hub is asked only for what is not here, and first whether it answers: left to itself the library tries for minutes.
    """
    from huggingface_hub import HfApi

    try:
        try:
            found = _from(name, local_files_only=True)
        except Exception:  # the library raises many kinds
            if Path(name).is_dir():
                raise
            HfApi().model_info(name, timeout=HUB_SECONDS)
            found = _from(name)
    except Exception as e:
        what = "a folder without a vision model" if Path(name).is_dir() else f"no folder, and no hub id whose files are here ({name!r})"
        raise InputError("init_args.folder", f"{what}: {type(e).__name__}: {' '.join(str(e).split())[:160]}", "the folder of a vision model of the "
                         "transformers library, or its hub id", "fetch it where there is a network (`hf download ID --local-dir FOLDER`) and give the "
                         "folder, or use --features radiomics, which needs no files") from e
    if lost := [k for k in found[2] if "pooler" not in k]:
        raise InputError("init_args.folder", f"{name}, whose file lacks {', '.join(lost[:3])}", "all weights of the model", "download it again")
    return found


def _from(name: str, **where: Any) -> tuple[Any, nn.Module, list[str], dict[str, Any]]:
    from transformers import AutoConfig, AutoModel
    from transformers.utils import cached_file

    config = AutoConfig.from_pretrained(name, **where)
    net, info = AutoModel.from_pretrained(name, output_loading_info=True, **where)
    try:
        pictures = json.loads(Path(cached_file(name, "preprocessor_config.json", **where)).read_text())
    except (OSError, ValueError, TypeError):
        pictures = {}
    return config, net, sorted(info["missing_keys"]), pictures
