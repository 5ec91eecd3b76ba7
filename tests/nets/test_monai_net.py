import pytest
import torch
from safetensors.torch import save_file

from synthrad.errors import InputError
from synthrad.nets import MonaiNet
from synthrad.nets.deep_supervision import Supervised

SMALL = {
    "UNet": {"channels": [4, 8, 8], "strides": [2, 2]},
    "DynUNet": {"kernel_size": [3] * 4, "strides": [1, 2, 2, 2], "upsample_kernel_size": [2] * 3, "filters": [4, 8, 8, 8], "deep_supr_num": 2},
    "SwinUNETR": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
}


@pytest.mark.parametrize("name", list(SMALL))
def test_logits_gradients_and_weights_of_a_file(name, tmp_path):
    net = MonaiNet(name, options=SMALL[name], out_channels=5)
    for size in ((64, 64), (32, 96)):
        assert net.eval()(torch.rand(2, 1, *size)).shape == (2, 5, *size)
    found = net.train()(torch.rand(2, 1, 64, 64))
    assert isinstance(found, Supervised) == (name == "DynUNet")
    outputs = found.logits if name == "DynUNet" else [found]
    assert len(outputs) == (3 if name == "DynUNet" else 1) and all(x.shape == (2, 5, 64, 64) for x in outputs)
    sum(x.square().sum() for x in outputs).backward()
    assert all(p.grad is not None for p in net.parameters())
    save_file({k: v.contiguous().clone() for k, v in net.net.state_dict().items()}, tmp_path / "net.safetensors")
    other = MonaiNet(name, str(tmp_path / "net.safetensors"), SMALL[name], out_channels=5).eval()
    x = torch.rand(1, 1, 64, 64)
    assert torch.equal(other(x), net.eval()(x))


def test_defaults_build_and_mistakes_are_named():
    for name in SMALL:
        assert MonaiNet(name).stride == {"UNet": 16, "DynUNet": 32, "SwinUNETR": 32}[name]
    with pytest.raises(InputError, match="did you mean DynUNet"):
        MonaiNet("DynUnet2")
    with pytest.raises(InputError, match="did you mean strides"):
        MonaiNet("UNet", options={"stride": [2]})
    with pytest.raises(InputError, match="model.net.options"):
        MonaiNet("SwinUNETR", options={"feature_size": 5})
    with pytest.raises(InputError, match="multiples of 4"):
        MonaiNet("UNet", options=SMALL["UNet"])(torch.rand(1, 1, 30, 32))
    with pytest.raises(InputError, match="more than one pixel at the last level"):
        MonaiNet("UNet", options=SMALL["UNet"])(torch.rand(1, 1, 4, 4))
