import pytest
import torch

from synthrad.gan.styles import CENTRE_DRAWS, Centres, Latents, draw_cuts, mean_style, mix_styles, parts
from synthrad.nets.stylegan2 import Mapping, minibatch_stddev


def test_styles_are_mixed_as_often_as_asked_with_a_uniform_crossover_of_exactly_two_latents():
    torch.manual_seed(0)
    n, layers = 20_000, 9
    cuts = draw_cuts(n, layers, 0.9, torch.device("cpu"))
    assert (cuts < layers).float().mean().item() == pytest.approx(0.9, abs=0.01)
    crossovers = torch.bincount(cuts[cuts < layers], minlength=layers)[1:] / (cuts < layers).sum()
    assert (crossovers - 1 / (layers - 1)).abs().max() < 0.01 and cuts.min() == 1
    w, other = torch.zeros(n, 1), torch.ones(n, 1)
    ws = mix_styles(w, other, cuts, layers)
    for k in range(50):  # as a loop says it: the first latent before the crossover, the second from there on
        assert ws[k, :, 0].tolist() == [0.0 if layer < cuts[k] else 1.0 for layer in range(layers)]
    seen = ws[:, :, 0]
    assert torch.equal((seen.min(1).values != seen.max(1).values), cuts < layers)  # a mixed picture shows both
    assert (seen.diff(dim=1) >= 0).all()  # and changes once
    assert (draw_cuts(100, layers, 0.0, torch.device("cpu")) == layers).all()


def test_parts_take_every_picture_once_and_keep_the_groups_of_minibatch_stddev():
    latents = Latents(torch.arange(16).view(2, 8, 1), torch.arange(8), [torch.arange(8).view(8, 1, 1, 1)])
    for wanted in (1, 2, 4):
        halves = [latents.part(p) for p in parts(8, wanted)]
        assert sorted(torch.cat([h.cuts for h in halves]).tolist()) == list(range(8))
        assert all(torch.equal(h.z[0, :, 0], h.cuts) and torch.equal(h.noise[0][:, 0, 0, 0], h.cuts) for h in halves)
    assert [len(range(2)[p]) for p in parts(2, 4)] == [1, 1]
    torch.manual_seed(0)
    x = torch.randn(16, 3, 2, 2)
    whole = minibatch_stddev(x, 4)
    for wanted in (2, 4):  # 8 and 4 pictures a part: groups of 4
        assert all(torch.equal(minibatch_stddev(x[p], 4), whole[p]) for p in parts(16, wanted))
    assert not torch.equal(minibatch_stddev(x[parts(16, 8)[0]], 4), whole[parts(16, 8)[0]])  # 2 a part: groups of 2
    assert not torch.equal(minibatch_stddev(x[:8], 4), whole[:8])  # neighbours, as processes have them: other groups


def test_mean_style_is_the_mean_over_latents_of_one_condition():
    torch.manual_seed(0)
    mapping = Mapping(4, 3, 5, 2, lr_mult=1.0).double()
    one, other = torch.tensor([[1.0, 0, 0], [0.0, 0, 1]]).double()
    seen = []

    def noted(z, c):
        seen.append(z)
        assert (c == c[0]).all()
        return mapping(z, c)

    mean = mean_style(noted, 4, one)
    assert len(seen[0]) == CENTRE_DRAWS and abs(seen[0].mean()) < 0.05 and seen[0].std().item() == pytest.approx(1, abs=0.05)
    slow = sum(mapping(z[None], one[None])[0] for z in seen[0]) / CENTRE_DRAWS
    torch.testing.assert_close(mean, slow)
    fresh = torch.stack([mapping(torch.randn(1, 4).double(), one[None])[0] for _ in range(500)])
    assert (mean - fresh.mean(0)).norm() < 0.2 * (mean - mean_style(mapping, 4, other)).norm()


def test_centres_depend_on_their_condition_alone_and_follow_the_weights():
    torch.manual_seed(0)
    mapping, centres = Mapping(4, 3, 5, 2), Centres()
    one, other = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0.0, 0, 1]])
    both = centres.of(mapping, 4, torch.cat([other, one, other]))
    assert torch.equal(both[0], both[2]) and not torch.equal(both[0], both[1])
    assert torch.equal(both[1], Centres().of(mapping, 4, one)[0])
    calls = []
    hook = mapping.register_forward_hook(lambda *_: calls.append(1))
    centres.of(mapping, 4, one)
    assert not calls  # known
    mapping.load_state_dict({k: v + 0.5 for k, v in mapping.state_dict().items()})
    moved = centres.of(mapping, 4, one)
    assert calls and not torch.equal(moved[0], both[1])
    hook.remove()
