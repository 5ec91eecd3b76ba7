import torch
from torch import nn

from synthrad.cases import Case
from synthrad.nets.short_fit import fit_briefly, likeliest


def test_a_net_learns_in_the_steps_it_is_given():
    torch.manual_seed(0)
    given = []

    def batches():
        rng, none = torch.Generator().manual_seed(0), torch.zeros(0)
        while True:
            given.append(torch.randn(8, 1, 4, 4, generator=rng))
            yield Case(given[-1], none, given[-1].mean((1, 2, 3)), none, none)

    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 1)).eval()
    seen = []

    def loss(logits, batch):
        value = (logits[:, 0] - batch.labels).square().mean()
        seen.append(float(value.detach()))
        return value

    with torch.no_grad():  # as inside a validation
        fit_briefly(net, batches(), loss, 200, 0.05, torch.device("cpu"), "fitting")
    assert len(given) == len(seen) == 200 and net.training
    assert sum(seen[-10:]) < 0.02 * sum(seen[:10])


def test_the_likeliest_structure_of_each_layer():
    logits = torch.tensor([1.0, 3.0, 2.0, 0.0, -1.0])[None, :, None, None].expand(2, 5, 3, 3)
    drawn = likeliest(logits, [2, 1])
    assert drawn.shape == (2, 2, 3, 3) and drawn.dtype == torch.uint8
    assert (drawn[:, 0] == 1).all() and (drawn[:, 1] == 0).all()
