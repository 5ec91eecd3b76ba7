import pytest
import torch

from synthrad.errors import InputError
from synthrad.nets import TimmNet


def test_shape_head_and_clear_errors(tmp_path):
    net = TimmNet(in_channels=1, num_classes=3).eval()
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
    torch.save(net.net.state_dict(), tmp_path / "net.pt")
    other = TimmNet(in_channels=1, num_classes=7, weights=str(tmp_path / "net.pt"))  # another head keeps its own weights
    assert torch.equal(other.net.conv1.weight, net.net.conv1.weight)
    with pytest.raises(InputError, match="did you mean"):
        TimmNet(name="resnet188")
