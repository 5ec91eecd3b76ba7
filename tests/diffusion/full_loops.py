"""What whole loops of other libraries' schedulers are compared on."""

import torch


class Table:
    """The thousand steps of a MONAI scheduler as a schedule: its step k is our time (k + 1) / 1000."""

    def __init__(self, scheduler):
        self.alphas = torch.cat([torch.ones(1, dtype=torch.float64), scheduler.alphas_cumprod.double()]).sqrt()

    def __call__(self, t):
        alpha = self.alphas[(t * 1000).round().long()]
        return alpha, (1 - alpha.square()).sqrt()


def answer(x, t):
    """A net that is no net."""
    k = t.view(-1, 1, 1, 1) * 1000 - 1
    return x * k / (k + 1)


def start():
    return torch.arange(4 * 3 * 8 * 8, dtype=torch.float64).view(4, 3, 8, 8) / (4 * 3 * 8 * 8)
