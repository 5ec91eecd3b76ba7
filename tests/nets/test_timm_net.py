import pytest
import torch

from synthrad.errors import InputError
from synthrad.nets import TimmNet
from synthrad.nets.backbones import backbone_of
from synthrad.nets.dense_heads import whole_patches


def test_shape_head_and_clear_errors(tmp_path):
    net = TimmNet(in_channels=1, num_classes=3).eval()
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
    torch.save(net.net.state_dict(), tmp_path / "net.pt")
    other = TimmNet(in_channels=1, num_classes=7, weights=str(tmp_path / "net.pt"))  # another head keeps its own weights
    assert torch.equal(other.net.conv1.weight, net.net.conv1.weight)
    with pytest.raises(InputError, match="did you mean"):
        TimmNet(name="resnet188")
    with pytest.raises(InputError, match="model.net.drop_rate: found 2.0; expected 0 to 1"):
        TimmNet(drop_rate=2.0)


@pytest.mark.parametrize(("name", "side", "shown"), [("pvt_v2_b0", 64, 64), ("test_vit", 72, 80), ("test_resnet", 33, 33)])
def test_pictures_are_enlarged_for_nets_that_cut_them_into_patches_alone(name, side, shown):
    net, image = TimmNet(name).eval(), torch.zeros(1, 1, side, side)
    assert whole_patches(image, net.patch).shape[-2:] == (shown, shown) and net(image).shape == (1, 1)


@pytest.mark.parametrize("name", ["mixer_s32_224", "levit_128s"])
def test_a_net_of_one_size_says_which(name):
    for net in (TimmNet(name).eval(), backbone_of(name, None, None, 1).eval()):
        with torch.no_grad():
            call = net if isinstance(net, TimmNet) else net.tokens
            call(torch.zeros(1, 1, 224, 224))
            with pytest.raises(InputError, match=f"(?s)data.size: found 64 x 64, which {name} does not take.*224 x 224.*model.net.name"):
                call(torch.zeros(1, 1, 64, 64))


def test_other_failures_of_a_net_stay_what_they_are(monkeypatch):
    net = TimmNet("test_resnet").eval()
    monkeypatch.setattr(net.net, "forward", lambda _: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        net(torch.zeros(1, 1, 64, 64))
