import pytest
import timm
import torch
from torch import nn

from synthrad.errors import InputError
from synthrad.nets.parameter_groups import layers_below_head, parameter_groups


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_rates_and_decays_are_those_of_timm(name):
    """But for the norm after the last block, which timm puts one below the head and we beside it."""
    from timm.optim import param_groups_layer_decay

    with torch.device("meta"):
        net = timm.create_model(name, num_classes=2)
    skipped = net.no_weight_decay() if hasattr(net, "no_weight_decay") else ()
    theirs = {id(p): (0.1 * g["lr_scale"], g["weight_decay"])
              for g in param_groups_layer_decay(net, 0.05, no_weight_decay_list=skipped, layer_decay=0.7) for p in g["params"]}
    ours = {id(p): (g["lr"], g["weight_decay"]) for g in parameter_groups(net, 0.1, 0.05, 0.7, None, decay_all=False) for p in g["params"]}
    assert ours.keys() == theirs.keys()
    other = [n for n, p in net.named_parameters() if ours[id(p)] != pytest.approx(theirs[id(p)])]
    assert other in ([], ["norm.weight", "norm.bias"])


def test_nothing_said_is_one_group_of_all_that_learns():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    net[0].bias.requires_grad_(False)
    [group] = parameter_groups(net, 0.1, 0.2)
    assert [p is q for p, q in zip(group["params"], [p for p in net.parameters() if p.requires_grad], strict=True)] == [True] * 5
    assert group["lr"] == 0.1 and group["weight_decay"] == 0.2


def test_the_head_has_its_own_rate():
    net = nn.ModuleDict({"stem": nn.Linear(2, 2), "blocks": nn.ModuleList([nn.Linear(2, 2)] * 1), "norm": nn.LayerNorm(2), "head": nn.Linear(2, 1)})
    rate = {id(p): g["lr"] for g in parameter_groups(net, 1.0, 0.0, 0.5, 8.0) for p in g["params"]}
    assert {n: rate[id(p)] for n, p in net.named_parameters() if n.endswith("weight")} == {
        "stem.weight": 0.25, "blocks.0.weight": 0.5, "norm.weight": 1.0, "head.weight": 8.0}


def test_transformers_and_segmenters_count_layers_too():
    import segmentation_models_pytorch as smp
    from transformers import Dinov2Config, Dinov2Model

    vit = layers_below_head(Dinov2Model(Dinov2Config(hidden_size=8, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=14)))
    assert vit["embeddings.cls_token"] == 4 and vit["layernorm.weight"] == 0
    assert {d for n, d in vit.items() if ".0." in n} == {3} and {d for n, d in vit.items() if ".2." in n} == {1}
    unet = layers_below_head(smp.Unet("resnet18", encoder_weights=None))
    assert unet["encoder.conv1.weight"] == 9 and unet["encoder.layer4.1.conv2.weight"] == 1
    assert {d for n, d in unet.items() if n.startswith(("decoder.", "segmentation_head."))} == {0}


def test_refusals():
    with pytest.raises(InputError, match="count no layers"):
        parameter_groups(nn.Linear(2, 2), 0.1, 0.0, layer_decay=0.5)
    with pytest.raises(InputError, match="model.layer_decay"):
        parameter_groups(nn.Linear(2, 2), 0.1, 0.0, layer_decay=1.5)
    with pytest.raises(InputError, match="model.head_lr"):
        parameter_groups(nn.Linear(2, 2), 0.1, 0.0, head_lr=0.0)
