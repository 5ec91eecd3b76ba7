import mixture
import pytest
import torch
from full_loops import Table, answer, start
from monai.networks.schedulers import PNDMScheduler

from synthrad.diffusion.denoisers import denoiser
from synthrad.diffusion.multistep import dpm_multistep, pndm, unipc
from synthrad.diffusion.samplers import heun
from synthrad.diffusion.schedules import NoiseSchedule

STEPS = list(range(900, -1, -100))  # of a thousand
AT = torch.tensor([(k + 1) / 1000 for k in STEPS] + [0.0], dtype=torch.float64)


def test_the_whole_loop_of_monai_pndm():
    """Its step is told the second time twice, as it counts on: its own list has that once, and goes on from the wrong one.

    With v_prediction it mixes answers of several times before it reads the noise from them, where the paper mixes noises.
    """
    monai, x = PNDMScheduler(1000, "linear_beta", skip_prk_steps=True, set_alpha_to_one=True), start()
    monai.alphas_cumprod = monai.alphas_cumprod.double()
    monai.set_timesteps(10)
    assert monai.timesteps.tolist() == STEPS
    for k in [*STEPS[:2], *STEPS[1:]]:
        x, _ = monai.step(answer(x, torch.tensor([(k + 1) / 1000])), k, x)
    schedule = Table(monai)
    found, other = (walk(denoiser(answer, schedule, "epsilon"), schedule, start(), AT) for walk in (pndm, dpm_multistep))
    assert torch.allclose(found, x, rtol=1e-8, atol=1e-8) and not torch.allclose(other, x, rtol=1e-2)


@pytest.mark.parametrize("order", [2, 3])
def test_the_whole_loop_of_diffusers_unipc(order):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed (the bench extra has it)")
    theirs, x = diffusers.UniPCMultistepScheduler(solver_order=order), start()
    theirs.set_timesteps(10)
    schedule = Table(theirs)
    theirs.sigmas = theirs.sigmas.double()
    for k in theirs.timesteps.tolist():
        x = theirs.step(answer(x, torch.tensor([(k + 1) / 1000])), k, x).prev_sample
    at = torch.tensor([(k + 1) / 1000 for k in theirs.timesteps.tolist()] + [0.0], dtype=torch.float64)
    found = unipc(denoiser(answer, schedule, "epsilon"), schedule, start(), at, order)
    assert torch.allclose(found, x, rtol=1e-5, atol=1e-6)  # its sigmas are of 32 bits
    assert not torch.allclose(found, unipc(denoiser(answer, schedule, "epsilon"), schedule, start(), at, 5 - order), rtol=1e-3)


@pytest.mark.parametrize(("walk", "least"), [
    (dpm_multistep, 1.9), (pndm, 1.6), (unipc, 2.7), (lambda *how: unipc(*how, order=3), 3.6)], ids=["dpm_multistep", "pndm", "unipc", "unipc_3"])
def test_orders_of_convergence(walk, least):
    """Between two times with noise, over steps that are even in what each sampler reckons with; half the step divides the error by 2 to the order."""
    schedule, even = NoiseSchedule("cosine"), walk is pndm
    x = torch.randn(50, 2, 1, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def at(steps):
        share = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64)
        if even:
            return share
        log = lambda t: torch.log(torch.tan((t + 0.008) / 1.008 * torch.pi / 2))  # noqa: E731
        ends = log(share[[0, -1]])
        angle = torch.atan(torch.exp(torch.linspace(*ends.tolist(), steps + 1, dtype=torch.float64)))
        return angle * 2 / torch.pi * 1.008 - 0.008

    exact = heun(mixture.best(schedule), schedule, x, at(4000))
    errors = [float((walk(mixture.best(schedule), schedule, x, at(n)) - exact).abs().mean()) for n in (80, 320)]
    assert torch.log2(torch.tensor(errors[0] / errors[1])) / 2 > least
