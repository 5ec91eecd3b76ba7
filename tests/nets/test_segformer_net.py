import torch

from synthrad.nets import SegformerNet

SMALL = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 2], "decoder_hidden_size": 16}


def test_head_and_encoder_are_those_of_the_file_but_for_the_last_layer(tmp_path):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    published = SegformerForSemanticSegmentation(SegformerConfig(num_labels=7, **SMALL))
    published.save_pretrained(tmp_path)
    net = SegformerNet(weights=str(tmp_path), in_channels=3, out_channels=5)
    mine, theirs = net.net.state_dict(), published.state_dict()
    same = {k for k in theirs if k in mine and mine[k].shape == theirs[k].shape and torch.equal(mine[k], theirs[k])}
    changed = {k.rpartition(".")[0] for k in set(theirs) - same}
    first = next(n for n, m in published.named_modules() if isinstance(m, torch.nn.Conv2d))
    assert changed == {first, "decode_head.classifier"}


def test_random_weights_are_of_the_smallest_one():
    assert 3.6e6 < sum(p.numel() for p in SegformerNet().parameters()) < 3.9e6  # B0 has 3.8 M
