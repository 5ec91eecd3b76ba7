import pytest
import torch
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model, ResNetConfig, ResNetModel

from synthrad.errors import InputError
from synthrad.nets.timm_net import TimmNet, any_size
from synthrad.nets.tuned_classifier import TunedClassifier
from synthrad.nets.tuning import trainable

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "image_size": 28, "patch_size": 14}
MEAN, SD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    """A folder as the hub has it, of the very class."""
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**SMALL)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}')
    return folder


def test_a_linear_probe_reads_the_class_token_of_the_folders_weights(dino):
    net = TunedClassifier(weights=str(dino), num_classes=3).train()
    grey = torch.rand(2, 1, 28, 28) * 2 - 1
    with torch.no_grad():
        theirs = Dinov2Model.from_pretrained(dino).eval()(((grey + 1) / 2 - MEAN) / SD)
    assert torch.allclose(net.encode(grey), theirs.pooler_output, atol=1e-5)  # DINOv2 pools by its normalized class token
    net(grey).sum().backward()
    assert {n for n, p in net.named_parameters() if p.grad is not None} == {"head.weight", "head.bias"} and not net.backbone.training
    assert torch.equal(net(net.encode(grey)), net(grey))
    both = TunedClassifier(weights=str(dino), pool="cls_mean").encode(grey)
    assert torch.allclose(both, torch.cat([theirs.last_hidden_state[:, 0], theirs.last_hidden_state[:, 1:].mean(1)], 1), atol=1e-5)


def test_every_way_to_tune_gives_gradients_to_what_learns_alone(dino):
    grey = torch.rand(2, 1, 28, 28)
    for tuning in ("frozen", "lora", "full"):
        net = TunedClassifier(weights=str(dino), tuning=tuning, head="attentive", rank=2).train()
        net(grey).sum().backward()
        assert all(p.grad is not None for p in net.parameters() if p.requires_grad) and net.frozen == (tuning == "frozen")
        learning = {n for n, p in net.backbone.named_parameters() if p.requires_grad}
        assert (not learning) if tuning == "frozen" else all("lora_" in n for n in learning) if tuning == "lora" else len(learning) > 20
        assert net.backbone.training == (tuning != "frozen")
    assert trainable(TunedClassifier(weights=str(dino), num_classes=2)) == 2 * 17


def test_any_size_of_picture_and_kind_of_net(dino):
    for size in ((28, 28), (50, 33)):
        assert TunedClassifier(weights=str(dino), head="attentive", scale=2.0, num_classes=2)(torch.zeros(1, 1, *size)).shape == (1, 2)
    settings = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic").to_dict() | {"model_type": "resnet"}
    for head, shape in (("linear", (1, 8)), ("attentive", (1, 16, 8))):
        net = TunedClassifier(settings=settings, tuning="full", head=head)
        assert net.encode(torch.zeros(1, 1, 32, 32)).shape == shape
    assert isinstance(net.backbone.net, ResNetModel)
    for name, tokens in (("resnet10t", 4), ("vit_tiny_patch16_224", 17), ("swin_tiny_patch4_window7_224", 4)):
        net = TunedClassifier(name, tuning="full", head="attentive")
        assert net.eval().encode(torch.zeros(1, 1, 64, 64)).shape[:2] == (1, tokens)
        assert TunedClassifier(name, tuning="full", num_classes=2).eval()(torch.zeros(1, 1, 60, 64)).shape == (1, 2)
    assert TimmNet("vit_tiny_patch16_224", num_classes=2)(torch.zeros(1, 1, 64, 32)).shape == (1, 2)


def test_timm_weights_of_a_file_or_folder_see_standardised_pictures(tmp_path):
    torch.manual_seed(0)
    theirs = any_size("vit_tiny_patch16_224", num_classes=5, depth=1, img_size=64).eval()
    with pytest.raises(InputError, match="weights of another net"):  # of another depth
        save_file(theirs.state_dict(), tmp_path / "model.safetensors")
        TunedClassifier("vit_tiny_patch16_224", weights=str(tmp_path))
    theirs = any_size("vit_tiny_patch16_224", num_classes=5).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    net = TunedClassifier("vit_tiny_patch16_224", weights=str(tmp_path), pool="cls").eval()
    grey = torch.rand(1, 1, 64, 64) * 2 - 1
    mean, sd = (torch.tensor(theirs.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    assert torch.allclose(net.encode(grey), theirs.forward_features(((grey + 1) / 2 - mean) / sd)[:, 0], atol=1e-4)
    ours = any_size("resnet10t", in_chans=1, num_classes=2).eval()  # of pictures in [-1, 1], as our fits leave it
    torch.save(ours.state_dict(), tmp_path / "ours.pt")
    net = TunedClassifier("resnet10t", weights=str(tmp_path / "ours.pt")).eval()
    assert torch.allclose(net.encode(grey), ours.forward_head(ours.forward_features(grey), pre_logits=True), atol=1e-5)


def test_identity_follows_weights_and_settings(dino):
    net = TunedClassifier(weights=str(dino))
    assert net.identity == TunedClassifier(weights=str(dino), num_classes=7).identity  # the head does not matter
    assert len({net.identity, TunedClassifier(weights=str(dino), pool="mean").identity, TunedClassifier(weights=str(dino), scale=2.0).identity}) == 3
    with torch.no_grad():
        next(net.backbone.parameters()).add_(1e-3)
    assert net.identity != TunedClassifier(weights=str(dino)).identity


def test_refusals(dino):
    with pytest.raises(InputError, match="neither name, weights nor settings"):
        TunedClassifier()
    with pytest.raises(InputError, match="did you mean"):
        TunedClassifier("resnet188")
    with pytest.raises(InputError, match="has no class token"):
        TunedClassifier("resnet10t", tuning="full", pool="cls")
    with pytest.raises(InputError, match="reads all tokens"):
        TunedClassifier(weights=str(dino), head="attentive", pool="mean")
    with pytest.raises(InputError, match="linear or attentive"):
        TunedClassifier(weights=str(dino), head="mlp")
    with pytest.warns(UserWarning, match="random features"):
        TunedClassifier("resnet10t")
