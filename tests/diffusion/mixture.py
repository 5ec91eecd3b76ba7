"""Two-dimensional data whose best denoiser is known: a mixture of normal distributions, as "pictures" [n, 2, 1, 1]."""

import torch

CENTRES = torch.tensor([[1.2, 0.4], [-0.6, 1.0], [-0.3, -1.1]], dtype=torch.float64)
SHARES = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
DEVIATION = 0.15


def draw(n, seed=0):
    random = torch.Generator().manual_seed(seed)
    which = torch.multinomial(SHARES, n, replacement=True, generator=random)
    return (CENTRES[which] + DEVIATION * torch.randn(n, 2, generator=random, dtype=torch.float64))[..., None, None]


def expected(x, alpha, sigma):
    """E[x_0 | x_t = x]: of each centre the posterior mean, weighted by how likely x comes from it."""
    flat, variance = x.flatten(1), alpha**2 * DEVIATION**2 + sigma**2
    distance = (flat[:, None] - alpha * CENTRES).square().sum(-1)
    weights = torch.softmax(SHARES.log() - distance / (2 * variance), dim=1)
    means = CENTRES + (alpha * DEVIATION**2 / variance) * (flat[:, None] - alpha * CENTRES)
    return (weights[..., None] * means).sum(1).view_as(x)


def best(schedule):
    def denoise(x, t):
        alpha, sigma = (float(a) for a in schedule(torch.tensor(t)))
        return expected(x, alpha, sigma)

    return denoise


def distance(x, seed=1):
    """Mean over 16 directions of the 1-Wasserstein distance to as many true draws."""
    truth = draw(len(x), seed).flatten(1)
    angles = torch.arange(16, dtype=torch.float64) * torch.pi / 16
    along = torch.stack([angles.cos(), angles.sin()])
    one, other = (x.flatten(1) @ along).sort(0).values, (truth @ along).sort(0).values
    return float((one - other).abs().mean())
