import shutil

import pytest
import torch
import transformers
from tiny_sam import KINDS, authors_names, make_sam

from synthrad.errors import InputError
from synthrad.nets import SamNet
from synthrad.nets.sam_original import renamed, settings_of

HEADS = {"mask_decoder_config": {"num_attention_heads": 2}}  # published ones have 8, as is taken for granted
PUBLISHED = """image_encoder.pos_embed image_encoder.patch_embed.proj.weight image_encoder.blocks.0.norm1.weight image_encoder.blocks.1.norm2.bias
    image_encoder.blocks.0.attn.rel_pos_h image_encoder.blocks.0.attn.qkv.weight image_encoder.blocks.0.mlp.lin1.weight image_encoder.neck.0.weight
    image_encoder.neck.3.bias prompt_encoder.pe_layer.positional_encoding_gaussian_matrix prompt_encoder.point_embeddings.3.weight
    prompt_encoder.not_a_point_embed.weight prompt_encoder.mask_downscaling.0.weight prompt_encoder.mask_downscaling.6.bias prompt_encoder.no_mask_embed.weight
    mask_decoder.transformer.layers.0.self_attn.q_proj.weight mask_decoder.transformer.layers.1.norm4.weight mask_decoder.transformer.layers.0.mlp.lin2.bias
    mask_decoder.transformer.layers.1.cross_attn_image_to_token.out_proj.weight mask_decoder.transformer.final_attn_token_to_image.k_proj.bias
    mask_decoder.transformer.norm_final_attn.weight mask_decoder.iou_token.weight mask_decoder.mask_tokens.weight mask_decoder.output_upscaling.1.bias
    mask_decoder.output_hypernetworks_mlps.3.layers.0.weight mask_decoder.output_hypernetworks_mlps.0.layers.2.bias
    mask_decoder.iou_prediction_head.layers.1.weight""".split()
PUBLISHED_HQ = """mask_decoder.hf_token.weight mask_decoder.hf_mlp.layers.0.weight mask_decoder.hf_mlp.layers.2.bias mask_decoder.compress_vit_feat.3.weight
    mask_decoder.embedding_encoder.1.weight mask_decoder.embedding_maskfeature.3.bias""".split()


def saved(tmp_path, kind="sam"):
    """A folder of the hub, and its weights in the authors' form."""
    folder = make_sam(tmp_path / kind, kind)
    state = authors_names(getattr(transformers, KINDS[kind][1]).from_pretrained(folder, local_files_only=True).state_dict())
    assert set(PUBLISHED if kind == "sam" else [*PUBLISHED, *PUBLISHED_HQ]) <= set(state)
    torch.save(state, tmp_path / f"{kind}_vit_b.pth")
    shutil.copy(tmp_path / kind / "preprocessor_config.json", tmp_path)
    return folder, tmp_path / f"{kind}_vit_b.pth", state


@pytest.mark.parametrize("kind", ["sam", "sam_hq"])
def test_the_authors_file_is_the_folder_of_the_hub(tmp_path, kind):
    folder, file, _ = saved(tmp_path, kind)
    nets = [SamNet(weights=folder, out_channels=3).eval(), SamNet(weights=str(file), settings=HEADS, out_channels=3).eval()]
    with torch.no_grad():
        for net in nets:
            net.prompts.copy_(torch.linspace(-1, 1, net.prompts.numel()).view_as(net.prompts))
        masks = [net(torch.linspace(-1, 1, 64 * 48).view(1, 1, 64, 48)) for net in nets]
    assert nets[1].kind == kind and torch.equal(*masks) and masks[0].std() > 0
    theirs, ours = (net.net.state_dict() for net in nets)
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[k], ours[k]) for k in theirs)


def test_pixels_from_0_to_1_as_medsam_saw_them(tmp_path):
    _, file, state = saved(tmp_path)
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        conv = torch.nn.functional.conv2d((x + 1) / 2, state["image_encoder.patch_embed.proj.weight"], state["image_encoder.patch_embed.proj.bias"], 16)
        plain, other = (SamNet(weights=str(file), settings=HEADS, pixels=p, in_channels=3).net.vision_encoder.patch_embed.projection(x) for p in ("plain", None))
    assert torch.allclose(plain, conv, atol=1e-5) and not torch.allclose(other, conv, atol=1e-2)
    with pytest.raises(InputError, match="null, standardised or plain"):
        SamNet(weights=str(file), pixels="raw")


@pytest.mark.parametrize(("width", "depth", "heads", "whole"), [(768, 12, 12, [2, 5, 8, 11]), (1280, 32, 16, [7, 15, 23, 31])])
def test_settings_of_published_sizes(width, depth, heads, whole):
    vision = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads, "global_attn_indexes": whole}
    published = transformers.SamConfig(vision_config=vision)
    with torch.device("meta"):
        state = authors_names(transformers.SamModel(published).state_dict())
    config = transformers.SamConfig(**{k: v for k, v in settings_of(state, "here").items() if k != "model_type"})
    for part in ("vision_config", "prompt_encoder_config", "mask_decoder_config"):
        assert getattr(config, part).to_dict() == getattr(published, part).to_dict()
    assert renamed(state).keys() == transformers.SamModel(config).state_dict().keys() if depth == 12 else True


def test_other_files_are_refused_in_one_message(tmp_path):
    _, file, state = saved(tmp_path)
    torch.save({**state, "image_encoder.blocks.0.Adapter.linear.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(InputError, match=r"1 names that are none of SamModel: \['vision_encoder.layers.0.Adapter"):
        SamNet(weights=str(file), settings=HEADS)
    torch.save({k: v for k, v in state.items() if "neck.1" not in k}, file)
    with pytest.raises(InputError, match=r"2 names missing: ; missing \['vision_encoder.neck.layer_norm1.bias'"):
        SamNet(weights=str(file), settings=HEADS)
    with pytest.raises(InputError, match=r"mask_decoder.iou_prediction_head.proj_in.bias: file \(16,\), net \(8,\)"):
        torch.save(state, file)
        SamNet(weights=str(file), settings={"mask_decoder_config": {"num_attention_heads": 2, "iou_head_hidden_dim": 8}})
    torch.save({"model": {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(1), "memory_encoder.x": torch.zeros(1)}}, tmp_path / "sam2.pt")
    with pytest.raises(InputError, match="SAM2 with its authors' names.*folder of the transformers library.*hf download facebook/sam2.1-hiera-tiny".replace(".*", r"(?s:.*)")):
        SamNet(weights=str(tmp_path / "sam2.pt"))
    torch.save({"image_encoder.layers.0.conv.weight": torch.zeros(1)}, tmp_path / "mobile.pt")
    with pytest.raises(InputError, match="without image_encoder.pos_embed"):
        SamNet(weights=str(tmp_path / "mobile.pt"))


@pytest.mark.parametrize(("name", "shape"), [("image_encoder.pos_embed", (1, 4)), ("image_encoder.blocks.0.attn.rel_pos_h", (7,)), ("image_encoder.blocks.0.attn.rel_pos_h", (7, 0)),
                                             ("image_encoder.patch_embed.proj.weight", ()), ("mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight", (0, 8))])
def test_tensors_of_wrong_shapes_are_refused_in_one_message(tmp_path, name, shape):
    _, file, state = saved(tmp_path)
    torch.save({**state, name: torch.zeros(shape)}, file)
    with pytest.raises(InputError, match="model.net.weights.*with tensors whose shapes are not SAM's"):
        SamNet(weights=str(file), settings=HEADS)
