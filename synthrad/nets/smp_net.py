"""Any architecture and encoder of segmentation-models-pytorch, without its downloads by default."""

from __future__ import annotations

from torch import Tensor, nn

from synthrad.errors import InputError, near
from synthrad.nets.loading import load_into, load_plain, locate, unless_null


class SmpNet(nn.Module):
    """A segmentation net: image [B, C, H, W] to logits [B, out_channels, H, W].

    Args:
        arch: architecture of segmentation_models_pytorch, such as Unet, UnetPlusPlus, FPN, Segformer.
        encoder: encoder name, such as resnet18 or tu-convnext_tiny.
        weights: null (random), a weights file (of the whole net or of its encoder) or a folder with one, a hub id, or a pretrained
            name of the encoder (imagenet) that is in the local hub cache.
        in_channels: image channels; linked from the data.
        out_channels: logits, over all layers; linked from the data.
    """

    def __init__(
        self,
        arch: str = "Unet",
        encoder: str = "resnet18",
        weights: str | None = None,
        in_channels: int = 1,
        out_channels: int = 2,
    ):
        super().__init__()
        import segmentation_models_pytorch as smp  # 3 s: only where a config names it

        weights = unless_null(weights)
        known = {k.lower() for k in smp.MODEL_ARCHITECTURES_MAPPING}
        if arch.lower() not in known:
            raise InputError("model.net.arch", repr(arch), f"one of {', '.join(sorted(known))}", near(arch, known))
        encoders = sorted(smp.encoders.encoders)
        if not encoder.startswith("tu-") and encoder not in encoders:
            raise InputError("model.net.encoder", repr(encoder), f"one of {', '.join(encoders)}", near(encoder, encoders))
        state = None
        if weights is not None:
            settings = smp.encoders.encoders.get(encoder, {}).get("pretrained_settings", {})
            hub = settings.get(weights, {}).get("repo_id", weights)
            state = load_plain(locate(hub, "model.net.weights"))
        self.net = smp.create_model(
            arch, encoder_name=encoder, encoder_weights=None, in_channels=in_channels, classes=out_channels
        )
        # depth of the encoder decides which picture sizes fit; smp names it on the encoder
        self.stride = int(getattr(self.net.encoder, "output_stride", 32))
        if state is not None:
            load_into(self.net, state, f"model.net.weights {weights}")

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, out_channels, H, W] of an image [B, C, H, W]."""
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            raise InputError("data.size", f"{height} x {width}", f"multiples of {self.stride} for this net",
                             "change data.size")
        return self.net(image)
