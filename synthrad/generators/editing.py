"""Pictures that start from a given one: image to image, and inpainting, where all but a region stays as it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from synthrad.conditioning import Condition, Images
from synthrad.errors import InputError
from synthrad.nets.encoding import encode_masks


def starting_picture(model: Any, condition: Condition, n: int) -> Tensor | None:
    """What a diffusion model noises to begin with: the condition's picture, or its latent; None = nothing but noise.

    Raises:
        InputError: an image of another shape, without masks that the model draws too, or a strength that cannot be meant.
    """
    if condition.image is None:
        if condition.inside is not None:
            raise InputError("condition: inside", "a region, and no image", "the image that it is of", "give condition.image")
        return None
    if not 0 < condition.strength <= 1:
        raise InputError("condition: strength", str(condition.strength), "a number above 0 and at most 1")
    size, joint = tuple(model.spec["size"]), not model.wants_masks and bool(model.structures)
    wanted = {"image": (n, len(model.spec["channels"]), *size), "masks": (n, len(model.structures), *size), "inside": (n, *size)}
    for name in ("image", *["masks"] * joint, *["inside"] * (condition.inside is not None)):
        given = getattr(condition, name)
        if given is None or tuple(given.shape) != wanted[name]:
            raise InputError(f"condition: {name}", "none" if given is None else f"shape {tuple(given.shape)}", f"{wanted[name]}, as the model "
                             "draws it", "an image that is changed comes with its masks where the model draws both")
    picture = condition.image.to(model.device, torch.float32)
    if joint:
        encoding = (model if model.autoencoder is None else model.autoencoder).hparams.mask_encoding
        picture = torch.cat([picture, encode_masks(condition.masks.to(model.device), model.structures, encoding)], 1)
    return picture if model.autoencoder is None else model.autoencoder.to_latents(picture)[0].float()


def outside_kept(drawn: Images, condition: Condition) -> Images:
    """What was drawn where the picture may change, and the given picture, bit for bit, elsewhere; its masks likewise."""
    if condition.image is None or condition.inside is None:
        return drawn
    inside = condition.inside[:, None].to(drawn.image.device)
    image = torch.where(inside, drawn.image, condition.image.to(drawn.image))
    masks = drawn.masks
    if masks is not None and masks.shape[1] and condition.masks is not None:
        masks = torch.where(inside.to(masks.device), masks, condition.masks.to(masks))
    return Images(image, masks)
