import pytest
import torch

from synthrad.errors import InputError
from synthrad.nets import SwinUperNet
from synthrad.nets.deep_supervision import Supervised

SMALL = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2], "window_size": 4, "image_size": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small Swin with a classifier as the hub has it."""
    from transformers import SwinConfig, SwinForImageClassification

    out = str(tmp_path_factory.mktemp("hub") / "swin")
    torch.manual_seed(0)
    SwinForImageClassification(SwinConfig(**SMALL)).save_pretrained(out)
    return out


def test_maps_are_those_of_the_library(folder):
    from transformers import SwinModel

    net = SwinUperNet(weights=folder, channels=8, in_channels=3).eval()
    published = SwinModel.from_pretrained(folder, local_files_only=True).eval()
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    mean, sd = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        mine = net.backbone(x, output_hidden_states=True).hidden_states[-1]
        theirs = published(((x + 1) / 2 - mean) / sd, always_partition=True, output_hidden_states=True).reshaped_hidden_states[-1]
    assert torch.allclose(mine, theirs, atol=1e-4)


def test_the_auxiliary_head_answers_in_training_alone(folder):
    net = SwinUperNet(weights=folder, channels=8, drop_path=0.0, out_channels=5)
    found = net.train()(torch.rand(2, 1, 64, 64))
    assert isinstance(found, Supervised) and found.weights == [1.0, 0.4] and all(x.shape == (2, 5, 64, 64) for x in found.logits)
    assert net.eval()(torch.rand(1, 1, 40, 72)).shape == (1, 5, 40, 72)


def test_random_weights_are_of_swin_base_and_one_head_can_do(folder):
    net = SwinUperNet(settings=SMALL, channels=8, auxiliary_weight=0)
    assert isinstance(net.train()(torch.rand(1, 1, 32, 32)), torch.Tensor)
    assert net.backbone.swin.encoder.layers[2].blocks[1].drop_path.drop_prob > 0
    with torch.device("meta"):
        base = SwinUperNet()
    assert 86e6 < sum(p.numel() for p in base.backbone.parameters()) < 88e6  # Swin-Base as published, 88 M with its classifier
    with pytest.raises(InputError, match=r"file \(8,\), net \(16,\)"):
        SwinUperNet(weights=folder, settings={"embed_dim": 16})
