import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from synthrad.datamodules.generation import GenerationDataModule
from synthrad.errors import InputError
from synthrad.records import DatasetInfo, Manifest, empty_columns


@pytest.fixture
def manifest(tmp_path):
    info = DatasetInfo("tiny", "tiny", classes=("a",), layers={"one": ("x",), "two": ("y", "z")}, attributes=("sex",),
                       roots={"here": str(tmp_path)})
    columns = empty_columns(info, 10)
    for i in range(10):
        Image.fromarray(np.full((8, 8), i * 20, np.uint8)).save(tmp_path / f"{i}.png")
        Image.fromarray(np.full((8, 8), 1, np.uint8)).save(tmp_path / f"m{i}.png")
        columns["channel:image"][i], columns["subject"][i] = f"{i}.png", f"s{i}"
        columns["mask:one"][i], columns["mask:two"][i] = f"m{i}.png", f"m{i}.png" if i % 2 else ""
        columns["split"][i], columns["digest"][i] = ["train", "val"][i > 7], f"d{i}"
        columns["attribute:sex"][i] = "FM"[i % 2] if i < 8 else "other"
    Manifest(pd.DataFrame(columns), info).write(tmp_path)
    return str(tmp_path)


def test_training_rows_with_known_masks_only(manifest, capsys):
    data = GenerationDataModule(manifest, (8, 8), 2)
    spec = data.spec()
    assert "4 of 8" in capsys.readouterr().out
    assert spec["fingerprints"] == ["d1", "d3", "d5", "d7"] and spec["attributes"] == {"sex": ["M"]}
    one = GenerationDataModule(manifest, (8, 8), 2, layers=["one"])
    assert len(one.spec()["trained_on"]) == 8 and one.spec()["layers"] == {"one": ["x"]}
    case = one.case(3)
    assert case.masks.shape == (1, 8, 8) and case.masks.unique().tolist() == [1]
    assert torch.isnan(case.labels).all() and case.attributes.tolist() == [0, 1]
    torch.testing.assert_close(case.image, torch.full((1, 8, 8), 60 / 127.5 - 1))


def test_order_continues_in_the_middle_of_an_epoch(manifest):
    def order(loader, n):
        seen = []
        while len(seen) < n:
            for batch in loader:
                seen.append(batch.index.tolist())
                if len(seen) == n:
                    break
        return seen

    data = GenerationDataModule(manifest, (8, 8), 3, layers=["one"])
    data.prepare()
    whole = order(data.train_dataloader(), 7)
    first = data.train_dataloader()
    begun = order(first, 3)
    rest = data.train_dataloader()
    rest.load_state_dict(first.state_dict())
    assert begun + order(rest, 4) == whole
    assert sorted(sum(whole, [])[:8]) == list(range(8))


def test_unknown_layer(manifest):
    with pytest.raises(InputError, match="three"):
        GenerationDataModule(manifest, (8, 8), 2, layers=["three"]).prepare()
