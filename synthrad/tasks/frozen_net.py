"""A frozen net as the data sees it: it gives features for pictures, and says whether it is still the one that gave them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synthrad.errors import RunError


class FrozenNet:
    """The part of a net that does not learn.

    Args:
        net: with `encode`, `identity` and `backbone`, such as nets.TunedClassifier with `tuning: frozen`.
        device: to compute on.
    """

    def __init__(self, net: nn.Module, device: torch.device):
        self.net, self.device, self.identity = net, device, net.identity
        self._state = self._written()

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """Rows [n, ...] of pictures [n, C, H, W]: float32 in evaluation, whatever the precision of the fit."""
        was = self.net.training
        self.net.to(self.device).eval()
        self._state = self._written()
        try:
            with torch.autocast(self.device.type, enabled=False):
                return self.net.encode(image.to(self.device)).float()
        finally:
            self.net.train(was)

    def check(self) -> None:
        """Refuse a backbone whose weights were replaced after its features were served.

        Raises:
            RunError: a checkpoint of another backbone was loaded.
        """
        if self._written() == self._state:
            return
        if self.net.identity != self.identity:
            raise RunError("the checkpoint's backbone is not the one that the features of the images come from (another model.net.weights, or another seed of a "
                           "random one): give the weights or --seed_everything of the fit, or --data.keep_features=false")
        self._state = self._written()

    def _written(self) -> list[tuple[int, int]]:
        """Changes whenever weights are written; the same otherwise."""
        return [(p.data_ptr(), p._version) for p in self.net.backbone.parameters()]
