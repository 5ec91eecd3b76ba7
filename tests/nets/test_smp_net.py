import pytest
import torch

from synthrad.errors import InputError
from synthrad.nets import SmpNet


def test_shape_and_clear_errors(tmp_path):
    net = SmpNet(in_channels=2, out_channels=5, weights="None").eval()
    assert net(torch.zeros(1, 2, 32, 64)).shape == (1, 5, 32, 64)
    with pytest.raises(InputError, match="multiples of 32"):
        net(torch.zeros(1, 2, 50, 64))
    with pytest.raises(InputError, match="did you mean unet"):
        SmpNet(arch="Unett")
    with pytest.raises(InputError, match="smp-hub/resnet18.imagenet"):
        SmpNet(weights="imagenet")
    torch.save(net.net.encoder.state_dict(), tmp_path / "encoder.pt")
    other = SmpNet(in_channels=2, out_channels=3, weights=str(tmp_path / "encoder.pt"))
    assert torch.equal(other.net.encoder.conv1.weight, net.net.encoder.conv1.weight)
