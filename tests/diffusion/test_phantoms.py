"""Every sampler draws phantoms as often as they are there: with the exact denoiser of some phantoms and their masks, nothing trained."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from synthrad.data.phantom import draw_phantom
from synthrad.diffusion.samplers import SAMPLERS, sample, spacing_of
from synthrad.diffusion.schedules import NoiseSchedule, times

N, COMPONENTS = 1000, 5
STEPS = {"ddpm": 50, "ddim": 50, "pndm": 25, "dpm_multistep": 20, "unipc": 20, "heun": 20}
SCHEDULES = {"cosine": NoiseSchedule("cosine", 0.5), "flow": NoiseSchedule("rectified_flow")}


@pytest.fixture(scope="module")
def phantoms():
    """[48, 2, 16, 32]: images and tooth masks in [-1, 1], every pixel a mean of four."""
    made = [draw_phantom(0, k, (32, 64)) for k in range(48)]
    pictures = np.stack([[m.image / 127.5 - 1, 2.0 * (m.masks["tooth"] > 0) - 1] for m in made])
    return F.avg_pool2d(torch.from_numpy(pictures).float(), 2)


def best(pictures, schedule):
    """E[x_0 | x_t] where x_0 is one of these pictures: their mean, each weighted by how likely x_t comes from it."""
    flat = pictures.flatten(1)

    def denoise(x, t):
        alpha, sigma = (float(v) for v in schedule(torch.tensor(t)))
        fit = alpha * (x.flatten(1) @ flat.T) - alpha**2 / 2 * flat.square().sum(1)
        return (torch.softmax(fit / max(sigma**2, 1e-8), 1) @ flat).view_as(x)

    return denoise


def moments(drawn, pictures):
    """Mean and covariance of drawn pictures along the leading components of the given ones (there 0 and 1), and their whole variance over theirs."""
    flat, drawn = pictures.flatten(1), drawn.flatten(1)
    centred = flat - flat.mean(0)
    _, deviations, components = torch.linalg.svd(centred, full_matrices=False)
    along = (drawn - flat.mean(0)) @ components[:COMPONENTS].T / (deviations[:COMPONENTS] / len(flat) ** 0.5)
    return along.mean(0), along.T.cov(), float((drawn - flat.mean(0)).square().mean() / centred.square().mean())


def drawn(sampler, steps, schedule, pictures):
    random = torch.Generator().manual_seed(3)
    noise = lambda: torch.randn(N, *pictures.shape[1:], generator=random)  # noqa: E731
    return sample(sampler, best(pictures, schedule), schedule, noise(), times(steps, spacing_of(sampler), schedule), noise)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_moments_of_phantoms(sampler, schedule, phantoms):
    """Along a component the mean to 0.13 (four deviations of a thousand draws) and the covariance to 0.15 (three); the whole variance to 3 %."""
    mean, covariance, whole = moments(drawn(sampler, STEPS[sampler], schedule, phantoms), phantoms)
    assert mean.abs().max() < 0.13
    assert (covariance - torch.eye(COMPONENTS)).abs().max() < 0.15
    assert whole == pytest.approx(1, abs=0.03)


def test_the_check_can_fail(phantoms):
    _, covariance, whole = moments(drawn("ddim", 4, SCHEDULES["cosine"], phantoms), phantoms)
    assert (covariance - torch.eye(COMPONENTS)).abs().max() > 0.15 and whole < 0.95
