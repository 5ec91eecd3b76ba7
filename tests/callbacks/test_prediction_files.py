"""What predictions leave on disk, of sets with masks and of sets with classes, the dataset's own and external ones."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tiny_set import make

from synthrad.callbacks.prediction_files import WritePredictions
from synthrad.nets import TimmNet
from synthrad.records import Manifest
from synthrad.tasks import ClassificationTask


def test_masks_and_columns_lie_by_set_and_row(tmp_path):
    own, other = (Manifest(m.table.assign(split="test"), m.info) for m in (make(tmp_path / "a", rows=4), make(tmp_path / "b", rows=4)))
    trainer = SimpleNamespace(datamodule=SimpleNamespace(test_manifests=[("", own), ("site", other)]), world_size=1, is_global_zero=True)
    writer = WritePredictions(tmp_path / "out")
    writer.on_predict_start(trainer, None)
    masks = torch.arange(2, dtype=torch.uint8)[:, None, None].expand(2, 8, 6)
    writer.on_predict_batch_end(trainer, None, {"tooth": masks, "probability:caries": torch.tensor([0.25, 0.75])}, SimpleNamespace(index=torch.tensor([2, 1])), 0, 1)
    writer.on_predict_batch_end(trainer, None, {"tooth": masks, "probability:caries": torch.tensor([0.5, torch.nan])}, SimpleNamespace(index=torch.tensor([0, 3])), 0, 0)
    writer.on_predict_end(trainer, None)
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    assert list(zip(table["set"], table["row"], strict=True)) == [("", 0), ("", 3), ("site", 1), ("site", 2)]
    assert list(table["image"]) == [str(m[r].channels[0]) for m, r in ((own, 0), (own, 3), (other, 1), (other, 2))]
    assert [str(p) for p in table["probability:caries"]] == ["0.5", "", "0.75", "0.25"]
    assert table["tooth"][2] == f"site/tooth/00001-{other.column('digest')[1][:10]}.png"
    for path, value in zip(table["tooth"], (0, 1, 1, 0), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / path)), np.full((8, 6), value))


def test_probabilities_and_the_thresholds_that_validation_chose():
    task = ClassificationTask(TimmNet("test_resnet", num_classes=2), ["caries", "implant"], pictures=0).eval()
    task.thresholds[0] = 0.3
    batch = SimpleNamespace(image=torch.zeros(3, 1, 32, 32))
    with torch.no_grad():
        found, probability = task.predict_step(batch, 0), task(batch.image).sigmoid()
    assert list(found) == ["probability:caries", "threshold:caries", "probability:implant", "threshold:implant"]
    torch.testing.assert_close(torch.stack([found["probability:caries"], found["probability:implant"]], dim=1), probability)
    torch.testing.assert_close(found["threshold:caries"], torch.full((3,), 0.3))
    assert found["threshold:implant"].isnan().all()
