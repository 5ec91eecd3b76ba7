import pytest
import torch
from torch import nn

from synthrad.errors import InputError
from synthrad.nets.transformers_loading import load_model
from synthrad.nets.tuning import trainable, tune

SMALL = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "image_size": 28, "patch_size": 14}


def test_low_rank_changes_start_at_nothing_and_alone_get_gradients():
    net = load_model("AutoModel", None, SMALL, channels=1)
    x = torch.rand(1, 1, 28, 28)
    before = net(x).last_hidden_state
    tune(net, "lora", rank=2)
    after = net(x).last_hidden_state
    assert torch.equal(before, after)
    after.sum().backward()
    learning = {n for n, p in net.named_parameters() if p.requires_grad}
    assert learning == {n for n, p in net.named_parameters() if p.grad is not None} and all("lora_" in n for n in learning)
    assert trainable(net) == 2 * 2 * (2 * 16 + 16 * 2)  # layers, of query and value, of two factors


def test_full_leaves_out_what_nothing_reads_and_frozen_leaves_out_all():
    net = load_model("AutoModel", None, SMALL, channels=1)
    tune(net, "full")
    net(torch.rand(1, 1, 28, 28)).last_hidden_state.sum().backward()
    assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["embeddings.mask_token"]
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)  # DDP needs it so
    tune(net, "frozen")
    assert trainable(net) == 0


def test_refusals():
    with pytest.warns(UserWarning, match="random features that do not learn"):
        tune(nn.Linear(2, 2), "frozen", pretrained=False)
    with pytest.raises(InputError, match="lora for Linear"):
        tune(nn.Linear(2, 2), "lora")
    with pytest.raises(InputError, match="frozen, lora or full"):
        tune(nn.Linear(2, 2), "some")
    with pytest.raises(InputError, match="model.net.rank"):
        tune(load_model("AutoModel", None, SMALL, channels=1), "lora", rank=0)
