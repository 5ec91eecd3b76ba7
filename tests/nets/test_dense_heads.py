import pytest
import torch

from synthrad.nets.dense_heads import ConvHead, DptHead, LinearHead, Pyramid, UperNetHead


def test_grids_of_the_logits_and_gradients_of_all_parameters():
    maps = [torch.randn(1, 8, 5, 3) for _ in range(4)]
    cases = [(LinearHead([8] * 4, 3), maps, (5, 3)), (DptHead([8] * 4, 3, channels=4), maps, (40, 24)), (ConvHead(8, 4, 3), maps[0], (5, 3)),
             (UperNetHead([8] * 4, 3, channels=4), Pyramid(8)(maps), (20, 12))]
    for head, given, grid in cases:
        logits = head(given)  # a batch of one trains too
        assert logits.shape == (1, 3, *grid), type(head)
        logits.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters()), type(head)


@pytest.mark.parametrize("head", [UperNetHead, DptHead])
def test_every_map_is_read(head):
    torch.manual_seed(0)
    net = head([8] * 4, 2, channels=8).eval()
    maps = [torch.randn(1, 8, 4, 4) for _ in range(4)]
    given = maps if head is DptHead else Pyramid(8)(maps)
    before = net(given)
    for i in range(4):
        assert not torch.allclose(net([x if i != k else x + 1 for k, x in enumerate(given)]), before), i
