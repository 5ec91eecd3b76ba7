import math

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from synthrad.diffusion.schedules import NoiseSchedule, times
from synthrad.errors import InputError

T = torch.linspace(0, 1, 101, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["cosine", "linear", "scaled_linear", "rectified_flow"])
@pytest.mark.parametrize("shift", [1.0, 0.25])
@pytest.mark.parametrize("zero", [False, True])
def test_from_a_picture_to_noise(kind, shift, zero):
    alpha, sigma = NoiseSchedule(kind, shift, zero)(T)
    assert (alpha[0], sigma[0]) == (pytest.approx(1), pytest.approx(0, abs=1e-7))
    assert (alpha.diff() < 0).all() and (sigma.diff() > 0).all()
    total = alpha + sigma if kind == "rectified_flow" else alpha.square() + sigma.square()
    assert torch.allclose(total, torch.ones_like(total))
    if zero or kind in ("cosine", "rectified_flow"):
        assert float(alpha[-1]) == pytest.approx(0, abs=1e-12)
    else:
        assert 0 < float(alpha[-1]) < 0.1


@pytest.mark.parametrize(("kind", "name", "ends"), [("linear", "linear_beta", (1e-4, 2e-2)),
                                                    ("scaled_linear", "scaled_linear_beta", (0.00085, 0.012))])
def test_the_continuous_limit_of_the_thousand_steps_of_monai(kind, name, ends):
    discrete = DDPMScheduler(1000, name, beta_start=ends[0], beta_end=ends[1]).alphas_cumprod.double().sqrt()
    alpha, _ = NoiseSchedule(kind)(torch.arange(1, 1001) / 1000)
    assert float((alpha - discrete).abs().max()) < 2e-3


def test_cosine_by_the_equation_of_the_paper():
    f = lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2  # noqa: E731
    alpha, _ = NoiseSchedule("cosine")(T)
    assert torch.allclose(alpha.square(), torch.tensor([f(float(t)) / f(0) for t in T], dtype=torch.float64), atol=1e-12)


def test_zero_terminal_snr_keeps_the_start_and_moves_the_end():
    plain, zero = NoiseSchedule("scaled_linear"), NoiseSchedule("scaled_linear", zero_terminal_snr=True)
    assert float(plain(T)[0][-1]) == pytest.approx(0.068, abs=2e-3)  # Lin et al. 2024, table 1: sqrt(alpha bar) of Stable Diffusion
    assert float((plain(T)[0] - zero(T)[0])[:20].abs().max()) < 0.01


def test_shift_moves_the_log_ratio_by_its_logarithm():
    for kind in ("linear", "rectified_flow"):
        (a, s), (b, r) = NoiseSchedule(kind)(T[1:-1]), NoiseSchedule(kind, 0.25)(T[1:-1])
        assert torch.allclose((b / r).log() - (a / s).log(), torch.full_like(a, math.log(0.25)))
    # the time shift of Esser et al. 2024, eq. 23, by 4
    assert torch.allclose(NoiseSchedule("rectified_flow", 0.25)(T)[1], 4 * T / (1 + 3 * T))


def test_times_go_down_to_the_picture():
    assert times(4).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert times(2, last=0.5).tolist() == [0.5, 0.25, 0]


@pytest.mark.parametrize("schedule", [NoiseSchedule("cosine"), NoiseSchedule("linear"), NoiseSchedule("rectified_flow", 0.25)])
def test_steps_even_in_the_logarithm(schedule):
    at = times(10, "log_snr", schedule)
    alpha, sigma = schedule(at[1:-1])
    assert len(at) == 11 and (at[0], at[-1]) == (1, 0) and (at.diff() < 0).all()
    logs = (alpha / sigma).log()
    assert torch.allclose(logs.diff(), (logs[1] - logs[0]).expand(8)) and float(logs[-1].exp()) == pytest.approx(250)
    assert float(times(10, "log_snr", schedule, last=0.3)[0]) == 0.3 and (times(10, "log_snr", schedule, last=0.3).diff() < 0).all()


def test_what_cannot_be_meant():
    with pytest.raises(InputError, match="(?s)cosin.*did you mean cosine"):
        NoiseSchedule("cosin")
    with pytest.raises(InputError, match="shift: found 0"):
        NoiseSchedule("cosine", 0)
