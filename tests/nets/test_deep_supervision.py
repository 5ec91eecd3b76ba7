import torch
from torch import nn

from synthrad.nets.deep_supervision import Supervised, masks_at, supervised
from synthrad.tasks import SegmentationTask


def test_masks_on_coarser_and_finer_grids_keep_structures_and_unknown_layers():
    masks = torch.zeros(1, 2, 4, 6, dtype=torch.long)
    masks[0, 0, :2, 3:], masks[0, 1] = 2, -1
    coarse = masks_at(masks, (2, 2))
    assert coarse[0, 0].tolist() == [[0, 2], [0, 0]] and (coarse[0, 1] == -1).all()
    assert torch.equal(masks_at(masks_at(masks, (8, 12)), (4, 6)), masks) and masks_at(masks, (4, 6)) is masks


class TwoPlaces(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 2, 2)

    def forward(self, image):
        return Supervised([self.fine(image), self.coarse(image)], [1.0, 0.25]) if self.training else self.fine(image)


def test_the_loss_is_the_weighted_sum_over_places_and_evaluation_sees_the_head():
    from types import SimpleNamespace

    task = SegmentationTask(TwoPlaces(), {"tooth": ("crown", "root")})
    task.trainer = SimpleNamespace(log_every_n_steps=50, global_step=0, loggers=[], callbacks=[])
    image, masks = torch.randn(2, 1, 8, 8), torch.randint(0, 3, (2, 1, 8, 8))
    loss = task.training_step(SimpleNamespace(image=image, masks=masks), 0)
    fine, coarse = supervised(task.net(image)).logits
    expected = task.loss([fine], masks) + 0.25 * task.loss([coarse], masks[..., 1::2, 1::2])
    assert torch.allclose(loss, expected)
    loss.backward()
    assert task.net.coarse.weight.grad.abs().sum() > 0
    assert torch.equal(task.eval()(image)[0], fine) and torch.equal(task.train()(image)[0], fine)
