import mixture
import pytest
import torch
from full_loops import Table, answer, start
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler

from synthrad import sample as command
from synthrad.diffusion.denoisers import denoiser
from synthrad.diffusion.multistep import dpm_multistep, pndm, unipc
from synthrad.diffusion.samplers import SAMPLERS, ancestral, heun, sample, spacing_of
from synthrad.diffusion.schedules import NoiseSchedule, times

N = 20_000
SCHEDULES = [NoiseSchedule("cosine"), NoiseSchedule("linear"), NoiseSchedule("linear", zero_terminal_snr=True),
             NoiseSchedule("rectified_flow"), NoiseSchedule("cosine", 0.5)]
NAMES = ["cosine", "linear", "linear zero", "flow", "shifted"]


def drawn(sampler, schedule, steps, n=N, spacing=None):
    spacing = spacing or spacing_of(sampler)
    random = torch.Generator().manual_seed(3)
    noise = lambda: torch.randn(n, 2, 1, 1, generator=random, dtype=torch.float64)  # noqa: E731
    return sample(sampler, mixture.best(schedule), schedule, noise(), times(steps, spacing, schedule), noise)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=NAMES)
@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 200), ("ddim", 100), ("pndm", 50), ("dpm_multistep", 30),
                                              ("unipc", 20), ("heun", 30)])
def test_moments_of_a_known_mixture(sampler, steps, schedule):
    found, truth = drawn(sampler, schedule, steps).flatten(1), mixture.draw(N, 9).flatten(1)
    assert torch.allclose(found.mean(0), truth.mean(0), atol=0.04)
    assert torch.allclose(found.T.cov(), truth.T.cov(), atol=0.05)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=NAMES)
@pytest.mark.parametrize("sampler", ["dpm_multistep", "unipc"])
def test_twenty_multistep_steps_do_what_two_hundred_ancestral_ones_do(sampler, schedule):
    floor = mixture.distance(mixture.draw(N, 7))  # of true draws to others
    few, many = (mixture.distance(drawn(*how)) for how in ((sampler, schedule, 20), ("ddpm", schedule, 200)))
    assert few < many + 2 * floor, (few, many, floor)
    assert mixture.distance(drawn("ddim", schedule, 3)) > few + floor  # the distance can tell


@pytest.mark.parametrize(("sampler", "steps"), [("dpm_multistep", 20), ("unipc", 20), ("heun", 20), ("pndm", 100),
                                              ("ddpm", 250), ("ddim", 250)])
@pytest.mark.parametrize("schedule", [NoiseSchedule("cosine"), NoiseSchedule("rectified_flow")], ids=["cosine", "flow"])
def test_the_brightness_of_pictures_varies_as_much_as_that_of_the_data(sampler, steps, schedule):
    """The mean of N x N pixels is N times as clear of noise as one of them: a normal number of deviation 0.2 N under noise of 1."""
    deviation = 0.2 * 64
    def denoise(x, t):
        alpha, sigma = (float(a) for a in schedule(torch.tensor(t)))
        return x * alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)

    spacing = spacing_of(sampler)
    random = torch.Generator().manual_seed(3)
    noise = lambda: torch.randn(N, 1, 1, 1, generator=random, dtype=torch.float64)  # noqa: E731
    found = sample(sampler, denoise, schedule, noise(), times(steps, spacing, schedule), noise)
    assert float(found.std()) == pytest.approx(deviation, rel=0.1)
    few = sample("ddim", denoise, schedule, noise(), times(12, "even", schedule), noise)
    assert float(few.std()) < 0.85 * deviation  # the check can fail


@pytest.mark.parametrize(("sampler", "least"), [("ddim", 0.9), ("dpm_multistep", 1.5), ("heun", 1.9)])
def test_orders_of_convergence(sampler, least):
    """A quarter of the step divides the error of the walk by 4 to the order."""
    schedule = NoiseSchedule("rectified_flow")
    exact = drawn("heun", schedule, 2000, 50, "even")
    errors = [float((drawn(sampler, schedule, n, 50, "even") - exact).abs().mean()) for n in (160, 640)]
    assert torch.log2(torch.tensor(errors[0] / errors[1])) / 2 > least


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_whole_loop_of_monai_ddpm(prediction):
    monai = DDPMScheduler(1000, "linear_beta", clip_sample=False, prediction_type=prediction)
    monai.betas = torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64)
    monai.alphas, monai.one = 1 - monai.betas, torch.ones((), dtype=torch.float64)
    monai.alphas_cumprod = monai.alphas.cumprod(0)
    x, random = start(), torch.Generator().manual_seed(0)
    for k in range(999, -1, -1):
        x, _ = monai.step(answer(x, torch.tensor([(k + 1) / 1000])), k, x, generator=random)
    schedule, random = Table(monai), torch.Generator().manual_seed(0)
    noise = lambda: torch.randn(4, 3, 8, 8, generator=random, dtype=torch.float64)  # noqa: E731
    denoise = denoiser(answer, schedule, "v" if prediction == "v_prediction" else prediction)
    found = ancestral(denoise, schedule, start(), torch.arange(1000, -1, -1) / 1000, noise)
    assert torch.allclose(found, x, rtol=1e-8, atol=1e-8)


def test_the_whole_loop_of_monai_ddim():
    monai = DDIMScheduler(1000, "linear_beta", clip_sample=False)
    monai.alphas_cumprod = monai.alphas_cumprod.double()
    schedule, x = Table(monai), start()
    steps = list(range(900, -1, -100))
    monai.num_inference_steps = 10  # leading spacing, as its steps k, k - 100, ... go
    for k in steps:
        x, _ = monai.step(answer(x, torch.tensor([(k + 1) / 1000])), k, x, eta=0.0)
    at = torch.tensor([(k + 1) / 1000 for k in steps] + [0.0], dtype=torch.float64)
    found = ancestral(denoiser(answer, schedule, "epsilon"), schedule, start(), at, start, eta=0.0)
    assert torch.allclose(found, x, rtol=1e-8, atol=1e-8)


def test_the_whole_loop_of_monai_rectified_flow():
    monai, x = RFlowScheduler(1000), start()
    monai.set_timesteps(10)
    net = lambda y, t: torch.sin(3 * y) + t.view(-1, 1, 1, 1)  # noqa: E731
    for k in range(10):
        t = torch.tensor([1 - k / 10], dtype=torch.float64)
        x, _ = monai.step(-net(x, t), 1000 - 100 * k, x)  # its velocity points to the picture
    schedule = NoiseSchedule("rectified_flow")
    found = ancestral(denoiser(net, schedule, "velocity"), schedule, start(), times(10), start, eta=0.0)
    assert torch.allclose(found, x, rtol=1e-8, atol=1e-8)


def test_calls_and_noise_are_what_they_are_said_to_be():
    schedule, counts = NoiseSchedule("cosine"), {"denoise": 0, "noise": 0}

    def denoise(x, t):
        counts["denoise"] += 1
        return 0 * x + 0.25

    def noise():
        counts["noise"] += 1
        return start()

    for walk, calls, draws in ((ancestral, 5, 4), (dpm_multistep, 5, 0), (unipc, 5, 0), (heun, 9, 0), (pndm, 5, 0)):
        counts.update(denoise=0, noise=0)
        more = (noise,) if walk is ancestral else ()
        out = walk(denoise, schedule, start(), times(5), *more)
        assert counts == {"denoise": calls, "noise": draws}
        assert torch.allclose(out, torch.full_like(out, 0.25))  # ends with the denoiser's last estimate


def test_the_command_line_knows_every_sampler():
    """It names them itself: `synthrad sample --help` must not wait for torch."""
    known = next(a.choices for a in command.parser()._actions if a.dest == "sampler")
    assert tuple(known) == SAMPLERS
