import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from synthrad.errors import InputError
from synthrad.nets.loading import locate
from synthrad.nets.transformers_loading import fit_input, load_model, resized_positions, source_of
from synthrad.nets.weight_files import said_of

SMALL = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "image_size": 28, "patch_size": 14}
MEAN, SD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small DINOv2 as the hub has it, with a classifier beside it, and what is said of its pictures."""
    from transformers import Dinov2Config, Dinov2ForImageClassification

    out = tmp_path_factory.mktemp("hub") / "dinov2"
    torch.manual_seed(0)
    Dinov2ForImageClassification(Dinov2Config(**{k: v for k, v in SMALL.items() if k != "model_type"})).save_pretrained(out)
    (out / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": SD}))
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    return out


def published(folder):
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, local_files_only=True).eval()


def standardised(x):
    return ((x + 1) / 2 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(SD).view(1, 3, 1, 1)


def test_a_folder_of_the_hub_gives_what_the_library_gives_for_colours_and_for_grey(folder):
    x = torch.rand(2, 3, 28, 28) * 2 - 1
    expected = published(folder)
    with torch.no_grad():
        colours = load_model("AutoModel", str(folder), None, channels=3).eval()
        assert torch.allclose(colours(x).last_hidden_state, expected(standardised(x)).last_hidden_state, atol=1e-5)
        grey = load_model("AutoModel", str(folder), None, channels=1).eval()
        same = expected(standardised(x[:, :1].expand(-1, 3, -1, -1))).last_hidden_state
        assert torch.allclose(grey(x[:, :1]).last_hidden_state, same, atol=1e-5)
        assert grey(x[:, :1, :14].repeat(1, 1, 3, 1)).last_hidden_state.shape == (2, 1 + 3 * 2, 16)  # another size


def test_pictures_that_are_not_standardised_are_shown_from_0_to_1(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "plain")
    (tmp_path / "plain" / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False, "image_mean": MEAN, "image_std": SD}))
    x = torch.rand(1, 3, 28, 28) * 2 - 1
    with torch.no_grad():
        mine = load_model("AutoModel", str(tmp_path / "plain"), None, channels=3).eval()(x).last_hidden_state
        assert torch.allclose(mine, published(folder)((x + 1) / 2).last_hidden_state, atol=1e-5)


def test_a_file_alone_and_a_file_beside_its_config(folder, tmp_path):
    shutil.copy(folder / "model.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(InputError, match=r"model.net.settings: found no model_type"):
        load_model("AutoModel", str(tmp_path / "alone.safetensors"), None, channels=3)
    with torch.no_grad():
        x = torch.rand(1, 1, 28, 28)
        told = load_model("AutoModel", str(tmp_path / "alone.safetensors"), {**SMALL}, channels=3)
        beside = load_model("AutoModel", str(folder / "model.safetensors"), None, channels=1).eval()
        assert torch.equal(beside(x).last_hidden_state, load_model("AutoModel", str(folder), None, channels=1).eval()(x).last_hidden_state)
    assert torch.equal(told.encoder.layer[1].mlp.fc1.weight, published(folder).encoder.layer[1].mlp.fc1.weight)


def test_parts_of_half_precision_become_a_whole_of_full_one(folder, tmp_path):
    published(folder).half().save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    net = load_model("AutoModel", str(tmp_path), None, channels=3)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert torch.allclose(net.encoder.layer[1].mlp.fc1.weight, published(folder).encoder.layer[1].mlp.fc1.weight, atol=1e-3)


def test_classes_by_model_type_refuse_others(folder):
    with pytest.raises(InputError, match="model_type 'dinov2'; expected vit"):
        load_model({"vit": "ViTModel"}, str(folder), None, channels=1)


def test_shapes_that_differ_and_names_that_lack_are_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"encoder\.layer\.0\.mlp\.fc1\.bias: file \(32,\), net \(48,\)"):
        load_model("AutoModel", str(folder), {"mlp_ratio": 3}, channels=1)
    shutil.copytree(folder, tmp_path / "torn")
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if "layer.1.norm2" not in k}, tmp_path / "torn" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"0 shapes that differ and 2 names missing: ; missing \['encoder.layer.1.norm2.bias'"):
        load_model("AutoModel", str(tmp_path / "torn"), None, channels=1)
    (tmp_path / "torn" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="config.json and model.safetensors"):
        load_model("AutoModel", str(tmp_path / "torn"), None, channels=1)


def test_random_weights_come_from_settings_alone_and_unknown_ones_are_refused():
    assert load_model("AutoModel", "None", SMALL, channels=2).embeddings.patch_embeddings.projection.weight.shape == (16, 2, 14, 14)
    with pytest.raises(InputError, match="did you mean dinov2"):
        load_model("AutoModel", None, {"model_type": "dinov22"}, channels=1)
    for kind in ("AutoModel", {"vit": "ViTModel"}):
        with pytest.raises(InputError, match=r"model.net.settings: found model_type \['vit'\]"):
            load_model(kind, None, {"model_type": ["vit"]}, channels=1)


@pytest.mark.parametrize("model_type", ["llama", "bert", "t5"])
def test_models_that_see_no_pictures_are_refused_before_they_are_built(model_type):
    with pytest.raises(InputError, match=f"model_type '{model_type}', which sees no pictures"):
        load_model("AutoModel", None, {"model_type": model_type}, channels=1)


def test_unknown_settings_are_refused_with_what_may_be_meant():
    with pytest.raises(InputError, match=r"(?s)model.net.settings.hidden_sise: found 3; expected a setting of Dinov2Config.*did you mean hidden_size"):
        load_model("AutoModel", None, {**SMALL, "hidden_sise": 3}, channels=1)
    with pytest.raises(InputError, match=r"model.net.settings.vision_config.nonsense: found 3; expected a setting of CLIPVisionConfig"):
        load_model("AutoModel", None, {"model_type": "clip", "vision_config": {"nonsense": 3}}, channels=1)


def test_a_hub_id_that_is_not_here_fails_at_once_and_one_that_is_here_is_found(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"(?s)model.net.weights: found hub id 'nobody/nothing'.*licence.*hf download nobody/nothing --local-dir"):
        load_model("AutoModel", "nobody/nothing", None, channels=1)
    with pytest.raises(InputError, match="no file or folder"):
        source_of("nowhere/model.safetensors", "model.net.weights")
    for find in (source_of, locate):
        with pytest.raises(InputError, match="model.net.weights: found no file or folder .*~nouser/x.pth"):
            find("~nouser/x.pth", "model.net.weights")
    assert said_of("~nouser/x.pth") == "~nouser/x.pth"
    revision = tmp_path / "models--some--net" / "snapshots" / "abc"
    revision.mkdir(parents=True)
    (revision / "config.json").write_text("{}")
    (tmp_path / "models--some--net" / "refs").mkdir()
    (tmp_path / "models--some--net" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert source_of("some/net", "model.net.weights") == revision


def test_folding_keeps_padding_convolutions_but_for_their_border():
    conv = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)
    x = torch.rand(1, 1, 8, 8) * 2 - 1
    with torch.no_grad():
        expected = conv(standardised(x.expand(-1, 3, -1, -1)))
        fit_input(conv, 1, MEAN, SD)
        assert conv.bias is not None and torch.allclose(conv(x)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5)
    with pytest.raises(InputError, match="image_std above 0"):
        fit_input(torch.nn.Conv2d(3, 4, 3), 1, MEAN, [0.0, 1.0, 1.0])


def test_positions_of_another_grid():
    table = torch.linspace(0, 1, 4).view(1, 1, 4, 1).expand(1, 4, 4, 2)
    assert resized_positions(table, (4, 4)) is table
    finer = resized_positions(table, (2, 8))
    assert finer.shape == (1, 2, 8, 2) and (finer[0, 0, 1:, 0] > finer[0, 0, :-1, 0]).all()
