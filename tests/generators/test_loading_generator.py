import pytest
import torch
from mask_painter import MaskPainter

from synthrad.errors import InputError
from synthrad.generators.loading import load_generator, wanted_layers


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
    with pytest.raises(InputError, match="cannot load"):
        load_generator(tmp_path / "torn.ckpt")


def test_only_a_generator_that_says_so_wants_masks(trained):
    generator, info, lineage, spec = load_generator(trained[1])
    assert spec["layers"] and wanted_layers(generator, spec) == []
    assert lineage.trained_on() and info.id == "tiny"
    painter = MaskPainter({"tooth": ("crown",)})
    assert wanted_layers(painter, painter.spec) == ["tooth"]
