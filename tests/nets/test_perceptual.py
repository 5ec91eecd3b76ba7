import pytest
import timm
import torch

from synthrad.errors import InputError
from synthrad.nets.perceptual import PerceptualDistance, feature_distance

ARCH = "resnet10t"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "net.pt"
    torch.save(timm.create_model(ARCH, pretrained=False, in_chans=3).state_dict(), path)
    return str(path)


@pytest.mark.parametrize("arch", ["vgg11", "convnext_atto", "resnet18"])
def test_ordinary_files_of_weights_fit(arch, tmp_path):
    net = timm.create_model(arch, pretrained=False, in_chans=3)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    distance, first = PerceptualDistance(str(tmp_path / "net.pt"), arch, 3), next(net.parameters())
    assert any(p.shape == first.shape and torch.equal(p, first) for p in distance.parameters())
    assert distance(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)) > 0


def test_by_the_equation(weights):
    distance = PerceptualDistance(weights, ARCH)
    one, other = torch.rand(2, 2, 1, 32, 32)
    slow = []
    grey = lambda x: ((x + 1) / 2 - (0.485 + 0.456 + 0.406) / 3) / ((0.229 + 0.224 + 0.225) / 3)  # noqa: E731
    for a, b in zip(distance.net(grey(one)), distance.net(grey(other)), strict=True):  # Zhang et al. 2018, eq. 1, w = 1
        a, b = (x / x.norm(dim=1, keepdim=True).clamp(min=1e-12) for x in (a, b))
        slow.append(((a - b) ** 2).sum(1).flatten(1).mean(1))
    assert distance(one, other).item() == pytest.approx(torch.stack(slow).mean().item(), rel=1e-3)
    assert distance(one, one).item() == pytest.approx(0, abs=1e-9)
    near = one + 0.02 * torch.randn_like(one)
    assert 0 < distance(one, near).item() < distance(one, other).item()


def test_weights_are_loaded_and_stay(weights):
    distance = PerceptualDistance(weights, ARCH).train()
    assert not distance.net.training and not any(p.requires_grad for p in distance.parameters())
    own, given = distance.net.state_dict(), torch.load(weights, weights_only=True)
    same = [k for k in given if k in own and own[k].shape == given[k].shape]
    assert len(same) >= len(given) - 3 and all(torch.equal(own[k], given[k]) for k in same)
    x = torch.rand(1, 1, 32, 32, requires_grad=True)
    distance(x, torch.rand(1, 1, 32, 32)).backward()
    assert x.grad.abs().sum() > 0


def test_weights_of_channels_as_lpips_has_them(weights, tmp_path):
    torch.manual_seed(1)
    lins, names = [torch.rand(1, c, 1, 1) for c in (64, 64, 128)], ("lin{}.model.1.weight", "lins.{}.model.1.weight", "lin{}.weight")
    one, other = torch.rand(2, 2, 1, 32, 32)
    for k, name in enumerate(names):
        torch.save({name.format(i): w for i, w in enumerate(lins)}, path := tmp_path / f"{k}.pth")
        distance = PerceptualDistance(weights, ARCH, linear=str(path))
        grey = [((x + 1) / 2 - distance.mean) / distance.std for x in (one, other)]
        slow = 0.0  # Zhang et al. 2018, eq. 1: sum over the layers that have weights
        for w, a, b in zip(lins, distance.net(grey[0]), distance.net(grey[1]), strict=False):
            a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
            slow = slow + (((a - b) ** 2) * w).sum(1).mean()
        assert distance(one, other).item() == pytest.approx(slow.item(), rel=1e-4)
        assert not any(p.requires_grad for p in distance.parameters())
    for wrong in ({"lin0.weight": torch.rand(1, 63, 1, 1)}, {"lin1.weight": torch.rand(64)}, {"other": torch.rand(64)}, {"lin0.weight": -torch.ones(64)}):
        torch.save(wrong, tmp_path / "wrong.pth")
        with pytest.raises(InputError, match="model.perceptual_linear"):
            PerceptualDistance(weights, ARCH, linear=str(tmp_path / "wrong.pth"))


def test_no_file_and_no_such_net(weights, tmp_path):
    with pytest.raises(InputError, match="model.perceptual"):
        PerceptualDistance(str(tmp_path / "none.pt"), ARCH)
    with pytest.raises(InputError, match="model.perceptual_arch"):
        PerceptualDistance(weights, "no_such_net")


def test_features_are_matched_from_one_side():
    own, other = [torch.ones(1, 2, 2, 2, requires_grad=True)], [torch.zeros(1, 2, 2, 2, requires_grad=True)]
    feature_distance(own, other).backward()
    assert own[0].grad.abs().sum() == 1 and other[0].grad is None
