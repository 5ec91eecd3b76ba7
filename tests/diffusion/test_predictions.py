import numpy as np
import pytest
import torch

from synthrad.diffusion.predictions import noised_loss, picture_of, spread_times, target_of, weight_of
from synthrad.diffusion.schedules import NoiseSchedule

PAIRS = [("epsilon", "linear"), ("x0", "linear"), ("v", "cosine"), ("velocity", "rectified_flow"), ("x0", "rectified_flow")]


@pytest.mark.parametrize(("prediction", "kind"), PAIRS)
def test_the_right_answer_gives_the_picture_back_and_no_loss(prediction, kind):
    schedule, random = NoiseSchedule(kind), torch.Generator().manual_seed(0)
    picture, noise = torch.randn(2, 6, 3, 4, 4, generator=random, dtype=torch.float64)
    t = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    alpha, sigma = (a.view(-1, 1, 1, 1) for a in schedule(t))
    right = target_of(prediction, picture, noise, alpha, sigma)
    assert torch.allclose(picture_of(prediction, right, alpha * picture + sigma * noise, alpha, sigma), picture)
    seen = []

    def net(x, at):
        seen.append((x, at))
        return right

    assert float(noised_loss(net, picture, noise, t, schedule, prediction, 5.0).max()) < 1e-12
    assert torch.equal(seen[0][1], t) and torch.allclose(seen[0][0], alpha * picture + sigma * noise)


@pytest.mark.parametrize(("prediction", "kind"), PAIRS)
def test_min_snr_weighs_the_error_of_the_picture_whatever_is_predicted(prediction, kind):
    alpha, sigma = NoiseSchedule(kind)(torch.linspace(0.1, 0.9, 9))
    shape = (-1, 1, 1, 1)
    noised, answer = torch.randn(2, 9, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, s = alpha.view(shape), sigma.view(shape)
    nudge = 1e-3 * torch.ones_like(answer)
    moved = picture_of(prediction, answer + nudge, noised, a, s) - picture_of(prediction, answer, noised, a, s)
    of_picture = moved.square().flatten(1).mean(1) / 1e-6  # squared error of the picture for one of the answer
    for gamma in (5.0, 5.0 / 16):  # of a picture, and of one of four times the side
        bounded = (alpha / sigma).square().clamp(max=gamma)  # epsilon: Hang et al. 2023, eq. 8
        of_error = {"epsilon": bounded, "v": bounded + 1, "x0": bounded + 1, "velocity": (1 + bounded.sqrt()).square()}[prediction]
        assert torch.allclose(weight_of(prediction, alpha, sigma, gamma), of_error * of_picture)
        assert of_error[0] > 1.2 * of_error[-1] > 0  # the picture counts more where more of it is left
    assert torch.equal(weight_of(prediction, alpha, sigma, None), torch.ones_like(alpha))


def test_weights_are_finite_at_both_ends():
    for prediction, kind in PAIRS:
        alpha, sigma = NoiseSchedule(kind, zero_terminal_snr=True)(torch.tensor([0.0, 1.0]))
        weights = weight_of(prediction, alpha, sigma, 5.0)
        assert torch.isfinite(weights).all() and weights[1] > 0  # noise alone is taught as well


@pytest.mark.parametrize("at", ["uniform", "logit_normal"])
def test_times_of_a_batch_are_spread_and_each_is_as_if_drawn_alone(at):
    random = torch.Generator().manual_seed(0)
    batches = torch.stack([spread_times(8, at, random) for _ in range(4000)])
    assert (batches > 0).all() and (batches < 1).all()
    first = batches[:, 0]  # one place of the batch: all of the distribution
    normal = torch.special.ndtri(torch.linspace(0.1, 0.9, 9, dtype=torch.float64))
    wanted = torch.linspace(0.1, 0.9, 9, dtype=torch.float64) if at == "uniform" else torch.sigmoid(normal)
    assert float((first.quantile(torch.linspace(0.1, 0.9, 9, dtype=torch.float64)) - wanted).abs().max()) < 0.03
    u = batches if at == "uniform" else torch.special.ndtr(torch.logit(batches))
    assert all(sorted(np.floor(row * 8).tolist()) == list(range(8)) for row in u[:50].numpy())
