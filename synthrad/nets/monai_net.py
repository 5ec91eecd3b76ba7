"""UNet, DynUNet and SwinUNETR of MONAI in two dimensions."""

from __future__ import annotations

import inspect
import math
from typing import Any

from torch import Tensor, nn

from synthrad.errors import InputError, near
from synthrad.nets.deep_supervision import Supervised
from synthrad.nets.loading import load_into, load_plain, locate, unless_null

DEFAULTS: dict[str, dict[str, Any]] = {
    "UNet": {"channels": [32, 64, 128, 256, 512], "strides": [2, 2, 2, 2], "num_res_units": 2},
    "DynUNet": {"kernel_size": [3] * 6, "strides": [1, 2, 2, 2, 2, 2], "upsample_kernel_size": [2] * 5, "deep_supervision": True, "deep_supr_num": 3},
    "SwinUNETR": {"feature_size": 24},
}
GIVEN = ("spatial_dims", "in_channels", "out_channels")


class MonaiNet(nn.Module):
    """A segmentation net: image [B, C, H, W] to logits [B, out_channels, H, W].

    Args:
        name: UNet (Kerfoot et al. 2018), DynUNet (nnU-Net's net; deep supervision in training: each coarser level has half the weight of the one before,
            all together 1) or SwinUNETR (Hatamizadeh et al. 2022).
        weights: null (random), or a file of weights of this net.
        options: arguments of MONAI's class, over our defaults: six levels for DynUNet, five for UNet.
        in_channels: image channels; linked from the data.
        out_channels: logits, over all layers; linked from the data.
    """

    def __init__(
        self,
        name: str = "DynUNet",
        weights: str | None = None,
        options: dict[str, Any] | None = None,
        in_channels: int = 1,
        out_channels: int = 2,
    ):
        super().__init__()
        from monai.networks import nets

        weights = unless_null(weights)
        if name not in DEFAULTS:
            raise InputError("model.net.name", repr(name), f"one of {', '.join(DEFAULTS)}", near(name, DEFAULTS))
        kind, options = getattr(nets, name), {**DEFAULTS[name], **(options or {})}
        takes = [k for k in list(inspect.signature(kind.__init__).parameters)[1:] if k not in GIVEN]
        if wrong := sorted(set(options) - set(takes)):
            raise InputError("model.net.options", f"{wrong}", f"some of {takes}", near(wrong[0], takes))
        try:
            self.net = kind(spatial_dims=2, in_channels=in_channels, out_channels=out_channels, **options)
        except (ValueError, TypeError, AssertionError) as e:
            raise InputError("model.net.options", f"{options}: {' '.join(str(e).split())[:200]}", f"arguments that MONAI's {name} takes") from e
        self.stride = 32 if name == "SwinUNETR" else math.prod(s if isinstance(s, int) else max(s) for s in options["strides"])
        if weights is not None:
            load_into(self.net, load_plain(locate(weights, "model.net.weights")), f"model.net.weights {weights}", part="model")

    def forward(self, image: Tensor) -> Tensor | Supervised:
        """Logits [B, out_channels, H, W] of an image [B, C, H, W]; in training of a net with deep supervision those of coarser levels too."""
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            raise InputError("data.size", f"{height} x {width}", f"multiples of {self.stride} for this net", "change data.size")
        if height * width == self.stride**2:
            raise InputError("data.size", f"{height} x {width}", "more than one pixel at the last level, which has no variance to normalize by",
                             "use larger pictures, or fewer levels in model.net.options")
        found = self.net(image)
        if found.ndim == 4:
            return found
        logits = list(found.unbind(1))  # MONAI has enlarged them to the picture
        whole = sum(2.0**-i for i in range(len(logits)))
        return Supervised(logits, [2.0**-i / whole for i in range(len(logits))])
