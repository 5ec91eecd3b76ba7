import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from synthrad.errors import InputError
from synthrad.nets.loading import load_into, load_plain, locate


def net(channels=3, classes=2):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, classes, 1))


def test_all_kinds_of_files_give_the_same_plain_weights(tmp_path):
    state = net().state_dict()
    torch.save({"state_dict": {f"net.{k}": v for k, v in state.items()} | {"thresholds": torch.ones(2)}}, tmp_path / "a.ckpt")
    torch.save(state, tmp_path / "b.pt")
    save_file(state, tmp_path / "c.safetensors")
    for name in ("a.ckpt", "b.pt", "c.safetensors"):
        loaded = load_plain(tmp_path / name)
        assert loaded.keys() == state.keys() and all(torch.equal(loaded[k], state[k]) for k in state)


def test_code_in_a_checkpoint_is_refused(tmp_path):
    torch.save(net(), tmp_path / "pickled.pt")
    with pytest.raises(InputError, match="cannot be read"):
        load_plain(tmp_path / "pickled.pt")


def test_first_convolution_is_adapted_and_other_shapes_are_named():
    state = net().state_dict()
    grey = net(channels=1)
    load_into(grey, state, "here")
    x = torch.randn(1, 1, 8, 8)
    rgb = net()
    rgb.load_state_dict(state)
    assert torch.allclose(grey.eval()(x), rgb.eval()(x.expand(-1, 3, -1, -1)), atol=1e-5)
    with pytest.raises(InputError, match=r"2\.weight: file \(2, 4, 1, 1\), net \(5, 4, 1, 1\)"):
        load_into(net(classes=5), state, "here")


def test_missing_weights_name_key_path_and_source():
    with pytest.raises(InputError, match="model.net.weights"):
        locate("nowhere/file.pt", "model.net.weights")
    with pytest.raises(InputError, match="hf download nobody/nothing"):
        locate("nobody/nothing", "model.net.weights")
