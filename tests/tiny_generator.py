"""A generator fit by the command line on a few squares: seconds, and its checkpoint is a real one."""

from pathlib import Path

import torch
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid

STEPS = 6  # of 4 images


SMALL = {
    "StyleGAN2": {"channel_base": 64, "channel_max": 8, "z_dim": 8, "w_dim": 8, "mapping_depth": 2, "r1_every": 2, "path_every": 3},
    "Diffusion": {"channels": "[8,16]", "attention": "[false,true]", "res_blocks": 1, "head_channels": 8, "steps": 3},
    "Autoencoder": {"channels": "[8,16,16]", "latent_channels": 2, "res_blocks": 1, "attention": "false", "adversarial_from": 8},
}


def fit_command(real: Path, run: Path, model: str = "StyleGAN2", size: int = 16, images: int = 4 * STEPS, **options) -> list[str]:
    chosen = {**SMALL[model], "max_images": images, **options}
    return ["fit", f"--model={model}", *(f"--model.{k}={v}" for k, v in chosen.items()), "--data=GenerationDataModule",
            f"--data.manifest={real}", f"--data.size=[{size},{size}]", "--data.batch_size=4", "--trainer.accelerator=cpu",
            "--trainer.callbacks=DurableCheckpoint", "--trainer.callbacks.every_steps=1",
            f"--trainer.default_root_dir={run}"]


def sample_command(checkpoint: Path, real: Path, out: Path) -> list[str]:
    return ["sample", "--checkpoint", str(checkpoint), "--manifest", str(real), "--out", str(out), "--number", "10",
            "--block-size", "4", "--device", "cpu"]


def fitted(folder: Path) -> tuple[Path, Path]:
    """A real set and the checkpoint of a generator fitted to it, under `folder`."""
    make(folder / "real")
    assert main(fit_command(folder / "real", folder / "whole")) == 0
    return folder / "real", newest_valid(folder / "whole")


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def same_weights(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
