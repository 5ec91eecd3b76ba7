"""A generator that draws from masks: it paints the mask that it was given into noise of the seed."""

import torch

from synthrad.conditioning import Images


class MaskPainter:
    wants_masks = True
    device = torch.device("cpu")

    def __init__(self, layers, size=(16, 16), classes=(), attributes=(), blocks=10**9):
        self.spec = {"layers": {k: list(v) for k, v in layers.items()}, "size": list(size), "classes": list(classes),
                     "attributes": {a: [] for a in attributes}, "label_dropout": 0.1}
        self.blocks, self.sizes, self.masks = blocks, [], []

    def to(self, device):
        return self

    def sample(self, condition, seeds, truncation=1.0):
        if not self.blocks:
            raise KeyboardInterrupt
        self.blocks -= 1
        assert condition.masks.dtype == torch.int64
        assert condition.masks.shape == (len(seeds), len(self.spec["layers"]), *self.spec["size"])
        self.sizes.append(len(seeds))
        self.masks.append(condition.masks)
        noise = torch.stack([torch.rand(1, *self.spec["size"], generator=torch.Generator().manual_seed(s)) for s in seeds])
        return Images(noise * 0.2 + condition.masks[:, :1].float() * 0.4 - 1)
