import pytest
import torch

from synthrad.diffusion.denoisers import clipped, denoiser, guided
from synthrad.diffusion.predictions import target_of
from synthrad.diffusion.schedules import NoiseSchedule


@pytest.mark.parametrize(("prediction", "kind"), [("epsilon", "linear"), ("v", "cosine"), ("velocity", "rectified_flow"), ("x0", "cosine")])
def test_a_net_that_knows_the_answer_gives_the_picture(prediction, kind):
    schedule, random = NoiseSchedule(kind), torch.Generator().manual_seed(0)
    picture, noise = torch.randn(2, 5, 1, 4, 4, generator=random)
    for t in (0.01, 0.4, 0.97):
        alpha, sigma = (float(a) for a in schedule(torch.tensor(t)))
        net = lambda x, at: target_of(prediction, picture, noise, torch.tensor(alpha), torch.tensor(sigma))  # noqa: B023, E731
        denoise = denoiser(net, schedule, prediction)
        assert torch.allclose(denoise(alpha * picture + sigma * noise, t), picture, atol=2e-4)
        assert float(clipped(denoise, 0.5)(alpha * picture + sigma * noise, t).abs().max()) == 0.5


def test_noise_alone_gives_no_infinite_picture():
    denoise = clipped(denoiser(lambda x, at: x, NoiseSchedule("cosine"), "epsilon"), 1.0)
    assert torch.isfinite(denoise(torch.randn(2, 1, 4, 4), 1.0)).all()


def test_guidance_by_the_equation_in_what_is_predicted():
    schedule, x = NoiseSchedule("cosine"), torch.randn(3, 1, 4, 4, dtype=torch.float64)
    told, untold = (lambda y, at: torch.sin(y)), (lambda y, at: torch.cos(y))
    by_answers = denoiser(lambda y, at: untold(y, at) + 3 * (told(y, at) - untold(y, at)), schedule, "epsilon")
    one, other = denoiser(told, schedule, "epsilon"), denoiser(untold, schedule, "epsilon")
    assert torch.allclose(guided(one, other, 3.0)(x, 0.6), by_answers(x, 0.6))
    assert torch.equal(guided(one, other, 0.0)(x, 0.6), other(x, 0.6))


def test_outside_the_interval_and_at_scale_one_the_condition_is_as_learned_and_costs_one_call():
    calls = []

    def counted(name):
        return lambda x, t: calls.append(name) or x

    limited = guided(counted("told"), counted("untold"), 4.0, (0.2, 0.8))
    for t in (0.1, 0.9):
        limited(torch.zeros(1), t)
    guided(counted("told"), counted("untold"), 1.0)(torch.zeros(1), 0.5)
    assert calls == ["told"] * 3
    limited(torch.zeros(1), 0.5)
    assert sorted(calls[3:]) == ["told", "untold"]
