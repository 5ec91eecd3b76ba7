"""SyntheticCases: synthetic images in order, for a net that learned from real ones."""

from __future__ import annotations

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from synthrad.data.cache import ImageCache
from synthrad.data.stored import as_case
from synthrad.datamodules.fusion import HeldOutCases
from synthrad.records import Manifest


class SyntheticCases(LightningDataModule):
    """Tests on one synthetic set; FusionDataModule tests on real images and refuses these.

    Args:
        source: name of the set, the column `external` of the cases. rows: Manifest. size: (height, width) of the pictures.
        judged_size: at which masks are read. batch_size: images a batch.
    """

    def __init__(self, source: str, rows: Manifest, size: tuple[int, int], judged_size: tuple[int, int], batch_size: int):
        super().__init__()
        self.test_manifests, self.batch_size = [(source, rows)], batch_size
        judged = ImageCache(rows, judged_size) if judged_size != size else None
        self._cases = HeldOutCases(rows, ImageCache(rows, size), judged)

    def test_dataloader(self) -> list[DataLoader]:
        """One loader."""
        return [DataLoader(self._cases, batch_size=self.batch_size, collate_fn=as_case)]
