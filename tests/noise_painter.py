"""A generator of noise for the tests of sampling, and what it is asked for."""

import numpy as np
import pandas as pd
import torch

from synthrad.conditioning import Images
from synthrad.dataset_info import DatasetInfo
from synthrad.lineage import Fitted, Lineage

LAYERS = {"organ": ("left", "right"), "other": ("x",)}
INFO = DatasetInfo("tiny", "tiny-id", classes=("a", "b"), layers=LAYERS, attributes=("sex",))
LINEAGE = Lineage((Fitted("generator", "d", trained_on=frozenset({"h"}), fingerprints=frozenset({"f"})),))


class Painter:
    """Noise from each seed; the label shifts the brightness. It can die in the middle of a set."""

    spec = {"layers": {"organ": ["left", "right"]}}

    def __init__(self, blocks: int = 10**9):
        self.blocks, self.sizes = blocks, []

    def sample(self, condition, seeds, truncation=1.0):
        if not self.blocks:
            raise KeyboardInterrupt
        self.blocks -= 1
        self.sizes.append(len(seeds))
        noise = torch.stack([torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(s)) for s in seeds])
        shift = torch.from_numpy(np.nan_to_num(condition.labels[:, 0])).float()[:, None, None, None]
        return Images(noise * truncation - shift, (noise * 3).long())


def conditions(n=10):
    return pd.DataFrame({"label:a": [i % 2 for i in range(n)], "attribute:sex": ["F"] * n})


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
