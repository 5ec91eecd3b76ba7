"""Image to image and inpainting by diffusion models."""

import numpy as np
import pytest
import tiny_gan
import torch
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.conditioning import Condition
from synthrad.diffusion.denoisers import inpainting
from synthrad.diffusion.samplers import sample
from synthrad.diffusion.schedules import NoiseSchedule, times
from synthrad.errors import InputError
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.loading import load_generator

TINY = {"channels": (8, 16), "attention": (False, True), "res_blocks": 1, "head_channels": 8, "warmup_images": 0, "steps": 6}


@pytest.fixture(scope="module")
def model():
    made = tiny_gan.fit(model=Diffusion(**TINY, max_images=8), steps=1)[0].eval()
    made.net_ema.net.out[2].conv.weight.data.normal_(0, 0.05)
    return made


@pytest.fixture
def real():
    case = tiny_gan.Pictures().batch(0)
    return {"image": case.image[:3], "masks": case.masks[:3]}


def test_the_less_noise_the_nearer_to_the_image(model, real):
    far = [float((model.sample(Condition(**real, strength=s), [1, 2, 3]).image - real["image"]).abs().mean()) for s in (0.01, 0.2, 0.5, 1.0)]
    assert far[0] < 0.05 and far == sorted(far) and far[-1] > 0.3
    whole = model.sample(Condition(**real, strength=1.0), [1, 2, 3]).image
    assert (whole - model.sample(Condition(), [1, 2, 3]).image).abs().max() < 1e-3  # a cosine schedule ends in noise alone


def test_outside_of_the_region_nothing_changes_bit_for_bit(model, real):
    inside = torch.zeros(3, 16, 16, dtype=torch.bool)
    inside[:, 4:10, 5:12] = True
    drawn = model.sample(Condition(**real, inside=inside), [1, 2, 3])
    kept = ~inside[:, None]
    assert torch.equal(drawn.image[kept], real["image"][kept]) and torch.equal(drawn.masks[kept], real["masks"][kept])
    assert not torch.equal(drawn.image, real["image"]) and not torch.equal(drawn.masks, real["masks"])


@pytest.mark.parametrize("sampler", ["ddim", "pndm", "dpm_multistep", "unipc", "heun"])
def test_what_is_drawn_fits_what_is_known(sampler):
    """Pictures of two pixels that are always alike: the second one, drawn, must become the known first one."""
    schedule = NoiseSchedule()

    def denoise(x, t):  # the exact one of x_0 = (a, a), a ~ N(0, 1)
        alpha, sigma = (float(v) for v in schedule(torch.tensor(t)))
        mean = alpha * x.mean(3, keepdim=True) / (alpha**2 + sigma**2 / 2)
        return mean.expand_as(x)

    known = torch.tensor([[[[0.7, 0.0]]], [[[-1.2, 0.0]]]], dtype=torch.float64)
    inside = torch.tensor([[[[0.0, 1.0]]]], dtype=torch.float64).expand_as(known)
    x = torch.randn(2, 1, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = sample(sampler, inpainting(denoise, known, inside), schedule, x, times(100, "even"), lambda: None)
    assert torch.allclose(out[..., 0], known[..., 0], atol=1e-6)
    assert (out[..., 1] - known[..., 0]).abs().max() < 0.25 and (out[..., 1] * known[..., 0] > 0).all()


def test_on_latents_too(tmp_path):
    make(tmp_path / "real")
    more = ["--data.layers=[]", "--data.min_subjects=2"]
    assert main([*fit_command(tmp_path / "real", tmp_path / "ae", "Autoencoder", 16), *more]) == 0
    command = fit_command(tmp_path / "real", tmp_path / "run", "Diffusion", 16, autoencoder=newest_valid(tmp_path / "ae"))
    assert main([*command, *more]) == 0
    model = load_generator(newest_valid(tmp_path / "run"))[0]
    image, inside = tiny_gan.Pictures().batch(0).image[:2], torch.zeros(2, 16, 16, dtype=torch.bool)
    inside[:, :8] = True
    drawn = model.sample(Condition(image=image, inside=inside), [1, 2])
    assert torch.equal(drawn.image[:, :, 8:], image[:, :, 8:]) and not torch.equal(drawn.image, image)


@pytest.mark.parametrize(("change", "words"), [
    ({"strength": 0.0}, "strength: found 0.0"), ({"masks": None}, "masks: found none"),
    ({"image": torch.zeros(3, 1, 8, 8)}, "image: found shape .3, 1, 8, 8."), ({"inside": torch.zeros(3, 8, 8)}, "inside: found shape"),
    ({"image": None, "inside": torch.zeros(3, 16, 16)}, "a region, and no image"),
])
def test_what_cannot_be_started_from_is_told(change, words, model, real):
    with pytest.raises(InputError, match=words):
        model.sample(Condition(**{**real, **change}), [1, 2, 3])


def test_a_gan_starts_from_no_image(real):
    with pytest.raises(InputError, match="image: found an image to start from, for a StyleGAN2"):
        tiny_gan.fit(steps=1)[0].sample(Condition(labels=np.zeros((3, 2)), image=real["image"]), [1, 2, 3])
