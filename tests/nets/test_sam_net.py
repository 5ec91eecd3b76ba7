import pytest
import torch
from tiny_sam import KINDS, SAM2, make_sam

from synthrad.errors import InputError
from synthrad.nets import SamNet
from synthrad.nets.deep_supervision import Supervised
from synthrad.nets.sam_net import boxes_of


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: make_sam(tmp_path_factory.mktemp("hub"), kind) for kind in KINDS}


@pytest.mark.parametrize("kind", list(KINDS))
def test_masks_of_a_box_are_those_of_the_library(folders, kind):
    import transformers

    published = getattr(transformers, KINDS[kind][1]).from_pretrained(folders[kind], local_files_only=True).eval()
    net = SamNet(weights=folders[kind], in_channels=3, out_channels=2).eval()
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    boxes = torch.tensor([[[4.0, 8.0, 40.0, 50.0], [0.0, 3.0, 20.0, 60.0]]])
    with torch.no_grad():
        if kind == "sam2":
            published.mask_decoder.dynamic_multimask_via_stability = False
        theirs = published(pixel_values=2 * x, input_boxes=boxes, multimask_output=False).pred_masks[:, :, 0]
        places, further = net._encoded(x)
        mine = net._decoded(places, further, net._of_boxes((boxes + 0.5) / 64))
    assert torch.allclose(mine, theirs, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize(("prompt", "tokens"), [("learned", 2), ("box", 1)])
def test_channels_have_masks_of_their_own_also_in_one_box(folders, prompt, tokens):
    net = SamNet(weights=folders["sam"], prompt=prompt, out_channels=3).eval()
    if prompt == "box":
        torch.nn.init.zeros_(net.coarse.weight), torch.nn.init.zeros_(net.coarse.bias)
    masks = net(torch.rand(1, 1, 64, 64))
    assert not torch.allclose(masks[:, 0], masks[:, 1]) and net.prompts.shape == (1, 3, tokens, 16)


def test_the_prompt_encoder_never_learns_and_boxes_have_a_coarse_loss(folders):
    for prompt in ("learned", "box"):
        net = SamNet(prompt, weights=folders["sam"], tuning="full", out_channels=5)
        learning = {n for n, p in net.named_parameters() if p.requires_grad}
        assert any("mask_decoder" in n for n in learning) and not any("prompt_encoder" in n for n in learning)
        found = net.train()(torch.rand(2, 1, 32, 64))
        assert isinstance(found, Supervised) == (prompt == "box")
        if prompt == "box":
            assert found.weights == [1.0, 0.4] and [tuple(x.shape) for x in found.logits] == [(2, 5, 32, 64), (2, 5, 2, 4)]


def test_a_box_of_a_filled_rectangle_is_the_rectangle():
    coarse = torch.full((1, 2, 20, 40), -20.0)
    coarse[0, 0] = 0
    coarse[0, 1, 5:15, 8:24] = 20
    assert torch.allclose(boxes_of(coarse)[0, 1], torch.tensor([0.2, 0.25, 0.6, 0.75]), atol=1e-3)
    assert torch.allclose(boxes_of(torch.zeros(1, 2, 8, 8))[0, 0], torch.tensor([0.0, 0.0, 1.0, 1.0]), atol=1e-3)


def test_a_video_model_gives_its_image_part(tmp_path):
    from transformers import Sam2VideoConfig, Sam2VideoModel

    Sam2VideoModel(Sam2VideoConfig(**SAM2, memory_attention_hidden_size=16, memory_attention_feed_forward_hidden_size=16, memory_encoder_hidden_size=16,
                                   memory_encoder_output_channels=8, memory_fuser_embed_dim=16, memory_attention_num_layers=1,
                                   memory_fuser_intermediate_dim=16, image_size=64)).save_pretrained(tmp_path)
    assert SamNet(weights=str(tmp_path)).eval()(torch.rand(1, 1, 64, 64)).shape == (1, 2, 64, 64)


def test_clear_errors(folders):
    with pytest.raises(InputError, match="no model_type; expected sam or sam_hq"):
        SamNet()
    with pytest.raises(InputError, match="learned or box"):
        SamNet("points", weights=folders["sam"])
    with pytest.raises(InputError, match=r"attn\.proj\.bias: file \(16,\), net \(32,\)"):
        SamNet(weights=folders["sam"], settings={"vision_config": {"hidden_size": 32}})
    with pytest.raises(InputError, match="model_type 'bert'"):
        SamNet(settings={"model_type": "bert"})
