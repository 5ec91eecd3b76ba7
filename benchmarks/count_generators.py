"""Count what training a shipped diffusion generator or autoencoder takes, on a device without memory: no GPU is needed, and none is timed.

    python benchmarks/count_generators.py configs/generators/ldm_256.yaml configs/generators/autoencoder_256.yaml

For each config of one image channel and one mask layer with two structures: million parameters that train, TFLOP of a training step for each image
(products and convolutions, forward and backward; losses and discriminators left out), GiB that weights, their average, gradients and
Adam hold in float32, and GiB an image that the backward pass keeps, in float32 and at half of it, the least that bf16 autocast can reach.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from synthrad.nets.autoencoder import ImageAutoencoder
from synthrad.nets.diffusion_unet import DiffusionUNet

IMAGE, PICTURE, CONDITION = 1, 3, 16  # channels of an image, of one with its masks, and length of a condition vector
BYTES = 4 * 5  # a parameter, its average, gradient and two moments


def settings(path: Path) -> tuple[str, dict, list[int], int]:
    """Class name, its options, size of pictures, batch size."""
    made = yaml.safe_load(path.read_text())
    return made["model"]["class_path"].rpartition(".")[2], made["model"]["init_args"], made["data"]["init_args"]["size"], made["data"]["init_args"]["batch_size"]


def net_of(path: Path) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A net without memory, and what it is called with for one image."""
    kind, options, size, _ = settings(path)
    with torch.device("meta"):
        if kind == "Autoencoder":
            names = ("latent_channels", "channels", "res_blocks", "attention")
            made = ImageAutoencoder(size, PICTURE, **{k: options[k] for k in names if k in options}, flash=True)
            return made, (torch.empty(1, PICTURE, *size), torch.empty(1, *made.latent_shape))
        if kind != "Diffusion":
            raise SystemExit(f"{path}: {kind}; expected a config of Diffusion or Autoencoder")
        channels = 4
        if (first := path.with_name(path.name.replace("ldm_", "autoencoder_"))) != path:
            _, theirs, size, _ = settings(first)
            halvings = len(theirs["channels"]) - 1
            size, channels = [s >> halvings for s in size], theirs["latent_channels"]
        names = ("channels", "attention", "res_blocks", "head_channels", "recompute")
        net = DiffusionUNet(size, channels, channels, CONDITION, **{k: options[k] for k in names if k in options}, flash=True)
        return net, (torch.empty(1, channels, *size), torch.empty(1), torch.empty(1, CONDITION))


def count(path: Path) -> dict[str, float]:
    """Numbers of one config."""
    net, given = net_of(path)
    own, kept = {p.untyped_storage()._cdata for p in net.parameters()}, {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = (storage, storage.nbytes())
        return x

    with FlopCounterMode(display=False) as flops, saved_tensors_hooks(keep, lambda x: x):
        made = net(*given)
        sum(x.sum() for x in (made if isinstance(made, tuple) else (made,)) if isinstance(x, Tensor)).backward()
    parameters = sum(p.numel() for p in net.parameters())
    return {"parameters_million": parameters / 1e6, "tflop_an_image": flops.get_total_flops() / 1e12, "gib_weights": parameters * BYTES / 2**30,
            "gib_an_image": sum(n for _, n in kept.values()) / 2**30, "batch": settings(path)[3]}


def main() -> None:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("configs", type=Path, nargs="+")
    for path in p.parse_args().configs:
        n = count(path)
        low, high = (n["gib_weights"] + n["batch"] * n["gib_an_image"] * share for share in (0.5, 1.0))
        print(f"{path.stem}: {n['parameters_million']:.0f} M parameters, {n['tflop_an_image']:.2f} TFLOP an image and step, {n['gib_weights']:.1f} GiB + "
              f"{n['gib_an_image'] / 2:.2f} to {n['gib_an_image']:.2f} GiB an image: {low:.0f} to {high:.0f} GiB at batch {n['batch']:.0f}")


if __name__ == "__main__":
    main()
