"""Backbones by name or settings: tokens, pooled rows and maps agree with each other and with the library's net."""

import pytest
import torch

from synthrad.errors import InputError
from synthrad.nets.backbones import HubBackbone, TimmBackbone, backbone_of

SETTINGS = {"model_type": "dinov2", "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
IMAGE = torch.randn(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["timm", "hub"])
def made(request):
    torch.manual_seed(0)
    return (backbone_of("test_vit", None, None, 1) if request.param == "timm" else backbone_of(None, None, SETTINGS, 1)).eval()


def test_tokens_hold_the_maps_and_the_pooled_rows(made):
    h, w = 32 // made.patch, 48 // made.patch
    with torch.no_grad():
        tokens, (last,) = made.tokens(IMAGE), made.maps(IMAGE, [made.blocks - 1])
        places = tokens[:, -h * w :]
        assert tokens.shape == (2, h * w + 1, made.width) and last.shape == (2, made.width, h, w)
        torch.testing.assert_close(last.flatten(2).transpose(1, 2), places)
        torch.testing.assert_close(made.pooled(IMAGE, "cls"), tokens[:, 0])
        torch.testing.assert_close(made.pooled(IMAGE, "mean"), places.mean(1))
        torch.testing.assert_close(made.pooled(IMAGE, "cls_mean"), torch.cat([tokens[:, 0], places.mean(1)], dim=1))
    for pool in ("cls", "mean", "cls_mean"):
        assert made.pooled_width(pool) == made.pooled(IMAGE, pool).shape[1]


def test_blocks_that_nothing_reads_go_and_the_others_say_the_same(made):
    with torch.no_grad():
        before = made.maps(IMAGE, [0, 1])
        parameters = sum(p.numel() for p in made.parameters())
        made.stop_after(1)
        for one, other in zip(before, made.maps(IMAGE, [0, 1]), strict=True):
            torch.testing.assert_close(one, other)
    assert sum(p.numel() for p in made.parameters()) < parameters


def test_kinds_and_what_is_missing():
    assert isinstance(backbone_of("null", None, SETTINGS, 1), HubBackbone) and isinstance(backbone_of("test_vit", None, None, 3), TimmBackbone)
    with pytest.raises(InputError, match="neither name, weights nor settings"):
        backbone_of(None, None, None, 1)
    with pytest.raises(InputError, match="none beside name 'test_vit'"):
        backbone_of("test_vit", None, SETTINGS, 1)
    with pytest.raises(InputError, match="a plain vision transformer"):
        _ = backbone_of("test_resnet", None, None, 1).blocks
