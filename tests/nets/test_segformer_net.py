import pytest
import torch

from synthrad.nets import SegformerNet

SMALL = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 2], "decoder_hidden_size": 16}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Small SegFormers as the hub has them: one that was fitted to 7 classes, and an encoder with a classifier."""
    from transformers import (
        SegformerConfig,
        SegformerForImageClassification,
        SegformerForSemanticSegmentation,
    )

    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("hub")
    SegformerForSemanticSegmentation(SegformerConfig(num_labels=7, **SMALL)).save_pretrained(out / "fitted")
    SegformerForImageClassification(SegformerConfig(num_labels=7, **SMALL)).save_pretrained(out / "encoder")
    return out


def test_head_and_encoder_are_those_of_the_file_but_for_the_last_layer(folders):
    from transformers import SegformerForSemanticSegmentation

    published = SegformerForSemanticSegmentation.from_pretrained(folders / "fitted", local_files_only=True)
    net = SegformerNet(weights=str(folders / "fitted"), in_channels=3, out_channels=5)
    mine, theirs = net.net.state_dict(), published.state_dict()
    same = {k for k in theirs if k in mine and mine[k].shape == theirs[k].shape and torch.equal(mine[k], theirs[k])}
    changed = {k.rpartition(".")[0] for k in set(theirs) - same}
    first = next(n for n, m in published.named_modules() if isinstance(m, torch.nn.Conv2d))
    assert changed == {first, "decode_head.classifier"}


@pytest.mark.parametrize("name", ["fitted", "encoder"])
def test_logits_at_any_size_and_gradients_where_they_belong(folders, name):
    for tuning in ("frozen", "lora", "full"):
        net = SegformerNet(weights=str(folders / name), tuning=tuning, rank=2, out_channels=5)
        for size in ((64, 64), (40, 72)):
            assert net.eval()(torch.rand(2, 1, *size)).shape == (2, 5, *size)
        net.train()(torch.rand(2, 1, 64, 64)).square().sum().backward()
        learning = {n for n, p in net.named_parameters() if p.requires_grad}
        assert learning == {n for n, p in net.named_parameters() if p.grad is not None}
        inside = {n for n in learning if n.startswith("net.segformer.")}
        assert all("lora_" in n for n in inside) if tuning == "lora" else bool(inside) == (tuning == "full")


def test_random_weights_are_of_the_smallest_one():
    assert 3.6e6 < sum(p.numel() for p in SegformerNet().parameters()) < 3.9e6  # B0 has 3.8 M
