"""Batches as the cache stores them: a byte or two a pixel until they are where they are used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from synthrad.cases import Case
from synthrad.data.cache import to_unit_range

if TYPE_CHECKING:
    import torch

BLOCKING = ("cpu", "mps")  # devices to which a copy that does not wait may be read before it is there, as Lightning has it


@dataclass
class StoredBatch:
    """What becomes a batched Case on the device: float images and int64 masks are 12 bytes a pixel of one channel and layer, these are 2.

    Args:
        image: uint8 or uint16 [B, C, H, W] as in the files; or float32 in [-1, 1] where it was augmented; or float32 [B, ...]: what a frozen net gave for it.
        masks: uint8 [B, L, H, W]; 255 = layer unknown for this image.
        labels, index, attributes: as in Case.
        low, high: intensities that become -1 and 1.
    """

    image: torch.Tensor
    masks: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor
    attributes: torch.Tensor
    low: float = 0.0
    high: float = 255.0

    def to(self, device: torch.device | str) -> StoredBatch:
        """The batch on a device; Lightning asks for it, and would walk through every field of a batch without this."""
        import torch

        later = torch.device(device).type not in BLOCKING
        moved = {n: getattr(self, n).to(device, non_blocking=later) for n in ("image", "masks", "labels", "index", "attributes")}
        return replace(self, **moved)

    def case(self) -> Case:
        """The batch on the device where it is; bit for bit what ImageCache.scaled gives of each image."""
        import torch

        image = self.image
        if not image.is_floating_point():
            image = to_unit_range(image.to(torch.float32), self.low, self.high).clamp_(-1, 1)
        return Case(image, _numbered(self.masks), self.labels, self.index, self.attributes)

    def cases(self) -> list[Case]:
        """Each item by itself."""
        c = self.case()
        return [Case(*item) for item in zip(c.image, c.masks, c.labels, c.index, c.attributes, strict=True)]


def as_case(batch: StoredBatch) -> Case:
    """Collates where nothing is converted later."""
    return batch.case()


def as_stored(batch: StoredBatch) -> StoredBatch:
    """Collates where a trainer's hook converts the batch on its device."""
    return batch


def _numbered(masks: torch.Tensor) -> torch.Tensor:
    """int64 masks of stored ones: 255 becomes -1."""
    import torch

    narrow = (masks + 1).to(torch.int16).sub_(1)  # 255 + 1 is 0 in a byte; wider numbers are passed over once only
    if masks.device.type != "cpu":
        return narrow.long()
    # numpy asks for huge pages: without them the page faults of so many new bytes take four times as long as the rest
    return torch.from_numpy(np.empty(masks.shape, np.int64)).copy_(narrow)
