"""Any net of timm, without its downloads by default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from synthrad.errors import InputError, near
from synthrad.nets.dense_heads import whole_patches
from synthrad.nets.loading import load_into, load_plain, locate, unless_null


class TimmNet(nn.Module):
    """A classifier: image [B, C, H, W] to logits [B, num_classes].

    Most nets take pictures of any size: plain transformers see whole patches of an enlarged picture, and interpolate their embeddings of places. Those of
    timm that were made for one size (beit, mixer, hiera, levit ...) refuse others.

    Args:
        name: a timm model, such as resnet18, convnext_tiny or vit_tiny_patch16_224.
        weights: null (random), a weights file or a folder with one, or a hub id that is in the local cache (timm/resnet18.a1_in1k).
        in_channels: image channels; linked from the data.
        num_classes: logits; linked from the data.
        drop_rate: dropout before the head, 0 to 1.
    """

    def __init__(
        self,
        name: str = "resnet18",
        weights: str | None = None,
        in_channels: int = 1,
        num_classes: int = 1,
        drop_rate: float = 0.0,
    ):
        super().__init__()
        weights = unless_null(weights)
        check_name(name)
        if not 0 <= drop_rate <= 1:
            raise InputError("model.net.drop_rate", str(drop_rate), "0 to 1")
        state = load_plain(locate(weights, "model.net.weights")) if weights is not None else None
        self.net = any_size(name, in_chans=in_channels, num_classes=num_classes, drop_rate=drop_rate)
        if state is not None:
            load_timm(self.net, state, f"model.net.weights {weights}")
        self.name, self.patch = name, patch_of(self.net)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, num_classes] of an image [B, C, H, W]."""
        shown = whole_patches(image, self.patch)
        with size_refused(self.net, self.name, shown):
            return self.net(shown)


def patch_of(net: nn.Module) -> int:
    """The side of the patches of a transformer that cuts its picture into them; 1 of other nets, whose patches overlap or come of a backbone."""
    from timm.layers import PatchEmbed

    embed = getattr(net, "patch_embed", None)
    if not isinstance(embed, PatchEmbed) or tuple(embed.proj.stride) != tuple(embed.patch_size):
        return 1
    return int(embed.patch_size[0])


@contextmanager
def size_refused(net: nn.Module, name: str, image: Tensor) -> Iterator[None]:
    """Say in one error that a net of timm does not take the size of image [B, C, H, W].

    Raises:
        InputError: the net failed over shapes, on a picture of another size than it was made for.
    """
    try:
        yield
    except (AssertionError, RuntimeError) as e:
        made_for, size = tuple(net.pretrained_cfg["input_size"][1:]), tuple(image.shape[-2:])
        if size == made_for or not (isinstance(e, AssertionError) or re.search(r"size of tensor|invalid for input|cannot be multiplied", str(e))):
            raise
        raise InputError("data.size", f"{size[0]} x {size[1]}, which {name} does not take ({' '.join(str(e).split())[:120]})",
                         f"a size that it takes, such as {made_for[0]} x {made_for[1]}", "set data.size to it, or model.net.name to a net of any size, such as resnet18") from e


def check_name(name: str) -> None:
    """Refuse a net that timm does not have.

    Raises:
        InputError: the name, and which one may have been meant.
    """
    import timm  # 2 s: only where a config names it

    if not timm.is_model(name):
        raise InputError("model.net.name", repr(name), "a timm model (timm.list_models())", near(name, timm.list_models()))


def any_size(name: str, **given: Any) -> nn.Module:
    """A net of timm that takes pictures of any size, if it can: plain transformers interpolate their embeddings of places."""
    import timm

    for more in ({"dynamic_img_size": True}, {"strict_img_size": False}, {}):
        try:
            return timm.create_model(name, pretrained=False, **given, **more)
        except TypeError:  # this net does not know the option
            if not more:
                raise
    raise AssertionError("the last attempt has no option")


def load_timm(net: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """As `loading.load_into`; embeddings of places of another grid are resampled to the net's, bicubic.

    Raises:
        InputError: names the layers whose shapes differ, or says that no name fits.
    """
    table = getattr(net, "pos_embed", None)
    if isinstance(table, Tensor) and hasattr(net, "num_prefix_tokens") and "pos_embed" in state and state["pos_embed"].shape != table.shape:
        from timm.layers import resample_abs_pos_embed

        before = 0 if getattr(net, "no_embed_class", False) else net.num_prefix_tokens
        state = {**state, "pos_embed": resample_abs_pos_embed(state["pos_embed"], list(net.patch_embed.grid_size), num_prefix_tokens=before)}
    load_into(net, state, where)
