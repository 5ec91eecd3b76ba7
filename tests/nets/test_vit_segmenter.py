import pytest
import torch
from safetensors.torch import save_file

from synthrad.errors import InputError
from synthrad.nets import VitSegmenter

KINDS = {
    "dinov2": {"image_size": 28, "patch_size": 14, "mlp_ratio": 2},
    "dinov2_with_registers": {"image_size": 28, "patch_size": 14, "mlp_ratio": 2, "num_register_tokens": 2},
    "dinov3_vit": {"image_size": 32, "patch_size": 16, "intermediate_size": 32, "num_register_tokens": 2},
    "vit": {"image_size": 32, "patch_size": 16, "intermediate_size": 32},
}


def settings(kind, **own):
    return {"model_type": kind, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, **KINDS[kind], **own}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Small models of the published classes as the hub has them."""
    from transformers import AutoConfig, AutoModel

    out = {}
    torch.manual_seed(0)
    for kind in KINDS:
        said = settings(kind)
        out[kind] = tmp_path_factory.mktemp("hub") / kind
        AutoModel.from_config(AutoConfig.for_model(said.pop("model_type"), **said)).save_pretrained(out[kind])
    return {k: str(v) for k, v in out.items()}


@pytest.mark.parametrize("kind", list(KINDS))
def test_places_of_the_last_block_are_those_of_the_library(folders, kind):
    from transformers import AutoModel

    net = VitSegmenter(weights=folders[kind], head="linear", tuning="frozen", in_channels=3, out_channels=5).eval()
    published = AutoModel.from_pretrained(folders[kind], local_files_only=True).eval()
    x = torch.rand(2, 3, 64, 32) * 2 - 1
    side = net.backbone.patch
    x = x[:, :, : 2 * side, : 2 * side]
    mean, sd = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        [mine] = net.backbone.maps(x, net.blocks)
        theirs = published(((x + 1) / 2 - mean) / sd).last_hidden_state[:, -4:]
    assert torch.allclose(mine.flatten(2).transpose(1, 2), theirs, atol=1e-4)


def test_a_frozen_backbone_stays_in_evaluation_and_unread_blocks_are_left_out(folders):
    net = VitSegmenter(weights=folders["vit"], head="linear", tuning="frozen", blocks=[0, 1])
    assert not net.train().backbone.training and net.head.training
    assert len(net.backbone.net.layers) == 2
    finer = VitSegmenter(weights=folders["vit"], head="linear", tuning="frozen", scale=2)
    assert finer.backbone.maps(torch.rand(1, 1, 64, 64), finer.blocks)[0].shape[-2:] == (4, 4)


def test_timm_from_a_file_of_the_hub_at_another_size(tmp_path):
    import timm

    torch.manual_seed(0)
    published = timm.create_model("test_vit", num_classes=7).eval()
    save_file(published.state_dict(), tmp_path / "model.safetensors")
    net = VitSegmenter("test_vit", weights=str(tmp_path), head="linear", tuning="frozen", in_channels=1).eval()
    x = torch.rand(1, 1, 160, 160) * 2 - 1
    mean, sd = (torch.tensor(published.pretrained_cfg[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        theirs = published.forward_features(((x.expand(-1, 3, -1, -1) + 1) / 2 - mean) / sd)[:, -100:]
        assert torch.allclose(net.backbone.maps(x, net.blocks)[0].flatten(2).transpose(1, 2), theirs, atol=1e-4)
        assert net(x[..., :50, :70]).shape == (1, 2, 50, 70)
    coarser = timm.create_model("test_vit", img_size=64)
    save_file(coarser.state_dict(), tmp_path / "model.safetensors")
    other = VitSegmenter("test_vit", weights=str(tmp_path), head="linear", tuning="frozen", in_channels=3)
    assert other.backbone.net.pos_embed.shape == published.pos_embed.shape


def test_clear_errors(folders):
    with pytest.raises(InputError, match="neither name, weights nor settings"):
        VitSegmenter()
    with pytest.raises(InputError, match="linear, upernet or dpt"):
        VitSegmenter(weights=folders["vit"], head="fcn")
    with pytest.raises(InputError, match="2 blocks; expected at least 4"):
        VitSegmenter(settings=settings("vit", num_hidden_layers=2))
    with pytest.raises(InputError, match="rising numbers of 0 to 3"):
        VitSegmenter(weights=folders["vit"], head="linear", blocks=[5])
    with pytest.raises(InputError, match="model_type resnet; expected one of dinov2"):
        VitSegmenter(settings={"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]})
    with pytest.raises(InputError, match="did you mean"):
        VitSegmenter("vit_smal_patch14_dinov2")
    with pytest.warns(UserWarning, match="random features"):
        VitSegmenter(settings=settings("vit"), head="linear", tuning="frozen")
