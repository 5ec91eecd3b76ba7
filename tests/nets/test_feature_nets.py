"""Feature nets with tiny or random weights that the tests write themselves."""

import json

import pytest
import timm
import torch
from torchvision.models import inception_v3
from transformers import (
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from synthrad.errors import InputError
from synthrad.nets.feature_nets import (
    IMAGENET_MEAN,
    IMAGENET_SD,
    InceptionFeatures,
    NetFeatures,
    TimmFeatures,
    TransformersFeatures,
)

IMAGES = torch.rand(3, 1, 24, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
MODEL = "test_resnet.r160_in1k"  # timm's own tiny net
VIT = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    net = timm.create_model(MODEL.split(".")[0], pretrained=False, num_classes=7)
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(net.state_dict(), path)
    return net.eval(), path


class Plain(torch.nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def test_what_pictures_go_through():
    space = NetFeatures(Plain(), 32, IMAGENET_MEAN, IMAGENET_SD)
    grey = space.prepared(IMAGES.expand(-1, 3, -1, -1))
    assert grey.shape == (3, 3, 32, 32)
    white = space.prepared(torch.ones(1, 3, 8, 8))[0, :, 0, 0]
    assert torch.allclose(white, (1 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_SD))
    rows = space(IMAGES)
    assert rows.shape == (3, 3) and torch.allclose(rows, space(IMAGES.expand(-1, 3, -1, -1)))  # grey is shown three times
    two = space(torch.cat([IMAGES, -IMAGES], 1))
    assert two.shape == (3, 6) and torch.allclose(two[:, :3], rows) and torch.allclose(two[:, 3:], space(-IMAGES))
    lengths = NetFeatures(Plain(), 32, IMAGENET_MEAN, IMAGENET_SD, unit=True)(IMAGES).norm(dim=1)
    assert torch.allclose(lengths, torch.ones(3)) and not space.train().training


def test_timm_gives_what_the_head_sees(weights):
    net, path = weights
    space = TimmFeatures(MODEL.split(".")[0], str(path), size=64)
    with torch.no_grad():
        expected = net.forward_head(net.forward_features(space.prepared(IMAGES.expand(-1, 3, -1, -1))), pre_logits=True)
    assert torch.allclose(space(IMAGES), expected, atol=1e-6) and space.sigma is None and not space.scaled
    assert torch.allclose(space(IMAGES)[1:2], space(IMAGES[1:2]), atol=1e-6)  # a row depends on its image alone
    other = TimmFeatures(MODEL.split(".")[0], str(path), size=96)
    assert space.identity == TimmFeatures(MODEL.split(".")[0], str(path), size=64).identity != other.identity
    assert TimmFeatures(MODEL.split(".")[0], str(path)).size == 160  # as timm says of it


def test_weights_of_another_net_or_with_gaps_are_refused(weights, tmp_path):
    _, path = weights
    state = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in state.items() if not k.startswith("layer4")}, tmp_path / "gaps.pth")
    for name, file, words in (("resnet18", path, "weights of another net"), (MODEL.split(".")[0], tmp_path / "gaps.pth", "missing"),
                              (MODEL.split(".")[0], tmp_path / "nowhere.pth", "no file"), ("no_such_net", path, "a timm model")):
        with pytest.raises(InputError, match=words):
            TimmFeatures(name, str(file))


def test_inception_gives_its_2048_columns(tmp_path):
    torch.manual_seed(0)
    whole = inception_v3(weights=None, init_weights=False).eval()
    torch.save({k: v.half() for k, v in whole.state_dict().items()}, tmp_path / "inception.pth")
    space, seen = InceptionFeatures(str(tmp_path / "inception.pth")), {}
    whole.load_state_dict({k: v.half().float() for k, v in whole.state_dict().items()})
    whole.fc.register_forward_pre_hook(lambda _, given: seen.update(rows=given[0]))
    with torch.no_grad():
        whole(space.prepared(IMAGES[:1].expand(-1, 3, -1, -1)))
    assert torch.allclose(space(IMAGES[:1]), seen["rows"], atol=1e-4) and space(IMAGES[:1]).shape == (1, 2048) and space.size == 299
    assert float(space.prepared(torch.ones(1, 3, 8, 8)).max()) == pytest.approx(1)
    with pytest.raises(InputError, match="no file"):
        InceptionFeatures("owner/name")


def test_transformers_pools_what_the_file_has(tmp_path):
    torch.manual_seed(0)
    ViTModel(ViTConfig(**VIT)).save_pretrained(tmp_path / "vit")
    ViTForImageClassification(ViTConfig(**VIT)).save_pretrained(tmp_path / "headless")  # has no pooler
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3, "image_std": [0.2] * 3}))
    space, bare = TransformersFeatures(str(tmp_path / "vit")), TransformersFeatures(str(tmp_path / "headless"))
    assert space.size == 32 and float(space.mean.mean()) == pytest.approx(0.1) and float(bare.mean[0]) == pytest.approx(IMAGENET_MEAN[0])
    net = ViTModel.from_pretrained(tmp_path / "vit").eval()
    with torch.no_grad():
        assert torch.allclose(space(IMAGES), net(space.prepared(IMAGES.expand(-1, 3, -1, -1))).pooler_output, atol=1e-5)
        last = bare.net.net(bare.prepared(IMAGES.expand(-1, 3, -1, -1))).last_hidden_state
    assert torch.allclose(bare(IMAGES), last.mean(1), atol=1e-5)
    assert torch.equal(bare(IMAGES), TransformersFeatures(str(tmp_path / "headless"))(IMAGES))  # nothing random in it


def test_transformers_of_other_kinds(tmp_path):
    torch.manual_seed(0)
    ConvNextModel(ConvNextConfig(hidden_sizes=[8, 8, 8, 12], depths=[1, 1, 1, 1], image_size=32)).save_pretrained(tmp_path / "conv")
    assert TransformersFeatures(str(tmp_path / "conv"))(IMAGES).shape == (3, 12)
    small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    clip = CLIPModel(CLIPConfig(text_config=dict(vocab_size=20, **small), vision_config=dict(image_size=32, patch_size=16, **small), projection_dim=6))
    clip.save_pretrained(tmp_path / "clip")
    space = TransformersFeatures(str(tmp_path / "clip"), unit=True)
    pixels = space.prepared(IMAGES.expand(-1, 3, -1, -1))
    with torch.no_grad():
        expected = clip.eval().visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)
    assert torch.allclose(space(IMAGES), torch.nn.functional.normalize(expected), atol=1e-5) and space.sigma == 10 and space.size == 32


def test_a_folder_that_is_no_vision_net_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="a folder without a vision model"):
        TransformersFeatures(str(tmp_path))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(InputError, match="no folder, and no hub id.*no network") as e:
        TransformersFeatures("owner/no-such-net")
    assert "radiomics" in str(e.value)
