from dataclasses import replace

import pytest
import torch
from mask_painter import MaskPainter

from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.generators.loading import check_same_dataset, load_generator, wanted_layers


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"weights": 1}, path)
    return path


def test_checkpoints_that_are_refused(tmp_path, checkpoint):
    with pytest.raises(InputError, match="no such file"):
        load_generator(tmp_path / "missing.ckpt")
    with pytest.raises(InputError, match="no generator"):
        load_generator(checkpoint)
    (tmp_path / "torn.ckpt").write_bytes(checkpoint.read_bytes()[:50])
    with pytest.raises(InputError, match="cannot be read"):
        load_generator(tmp_path / "torn.ckpt")


def test_only_a_generator_that_says_so_wants_masks(trained):
    generator, info, lineage, spec = load_generator(trained[1])
    assert spec["layers"] and wanted_layers(generator, spec) == []
    assert lineage.trained_on() and info.id == "tiny"
    painter = MaskPainter({"tooth": ("crown",)})
    assert wanted_layers(painter, painter.spec) == ["tooth"]


@pytest.mark.parametrize("other", [
    {"id": "b"}, {"classes": ("y",)}, {"layers": {"tooth": ("root",)}}, {"channels": ("x",)}, {"resize": "squeeze"},
    {"intensity": {"low": 0.0, "high": 65535.0}}])
def test_a_checkpoint_of_other_data_is_refused_by_what_differs(other):
    info = DatasetInfo(name="a", id="a", classes=("x",), layers={"tooth": ("crown",)})
    check_same_dataset(info, DatasetInfo.from_dict(info.to_dict(), "a"), "last.ckpt")
    with pytest.raises(InputError, match=f"last.ckpt: {next(iter(other))}"):
        check_same_dataset(info, replace(info, **other), "last.ckpt")
