import pytest
import torch


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"weights": 1}, path)
    return path
