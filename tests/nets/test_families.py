"""Every family of nets by the same questions: loaded from a small file of the very class in the hub's format, and then fitted in every way that it knows."""

import json
import re
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_monai_net import SMALL as MONAI
from test_segformer_net import SMALL as SEGFORMER
from test_swin_upernet import SMALL as SWIN
from test_vit_segmenter import settings as vit_settings
from tiny_clip import make_clip
from tiny_sam import authors_names, make_sam

from synthrad import nets
from synthrad.errors import InputError
from synthrad.nets.deep_supervision import supervised
from synthrad.nets.parameter_groups import layers_below_head, parameter_groups
from synthrad.nets.pretrained_net import PretrainedNet

RAD_DINO = {"image_mean": [0.5307] * 3, "image_std": [0.2583] * 3}  # as microsoft/rad-dino says of its grey pictures


@dataclass
class Family:
    net: type
    make: Callable  # (folder) -> weights, written there
    new: str = r"^(head|pyramid)\."  # names of what no file holds
    given: dict[str, Any] = field(default_factory=dict)
    sizes: tuple = ((64, 64), (40, 72))


def hub(model: str, settings: dict[str, Any], pictures: dict[str, Any] | None = None) -> Callable:
    """A model of the transformers library with settings, as its own save_pretrained writes it."""

    def make(folder):
        import transformers

        net = model_of(transformers, model, dict(settings))
        net.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(pictures or {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}))
        return folder

    return make


def model_of(transformers, model, settings):
    if model == "AutoModel":
        return transformers.AutoModel.from_config(transformers.AutoConfig.for_model(settings.pop("model_type"), **settings))
    kind = getattr(transformers, model)
    return kind(kind.config_class(**settings))


def plain(build: Callable) -> Callable:
    """The weights of a net that the hub keeps without a config: a folder with one file."""

    def make(folder):
        folder.mkdir()
        net = build()
        for p in net.parameters():  # what starts at 0 would hide whether it learns
            if not p.any():
                torch.nn.init.normal_(p, std=0.1)
        save_file({k: v.contiguous().clone() for k, v in net.state_dict().items()}, folder / "model.safetensors")
        return folder

    return make


def medsam(folder):
    """As the authors publish it, not the hub."""
    import transformers

    make_sam(folder)
    file = folder / "medsam_vit_b.pth"
    torch.save(authors_names(transformers.SamModel.from_pretrained(folder, local_files_only=True).state_dict()), file)
    return file


def timm_net(name, **given):
    import timm

    return timm.create_model(name, **given)


def monai(name):
    return Family(nets.MonaiNet, plain(lambda: nets.MonaiNet(name, options=MONAI[name], in_channels=3).net), "^$", {"name": name, "options": MONAI[name]}, STRIDED)


def smp():
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet18", encoder_weights=None, classes=2, encoder_depth=5)


STRIDED = ((64, 64), (32, 96))
SAM_NEW = r"^(prompts$|coarse\.)"
OF_MEDSAM = {"prompt": "box", "pixels": "plain", "settings": {"mask_decoder_config": {"num_attention_heads": 2}}}
VITS = {"dinov2": hub("AutoModel", vit_settings("dinov2")), "dinov3": hub("AutoModel", vit_settings("dinov3_vit")),
        "rad_dino": hub("AutoModel", vit_settings("dinov2", image_size=42), RAD_DINO)}
TIMM_VIT = plain(lambda: timm_net("test_vit", num_classes=5, img_size=64))  # of another grid than the net's
TIMM_RESNET = plain(lambda: timm_net("resnet10t", num_classes=5))
DENSE = {f"{name}_{head}": Family(nets.VitSegmenter, make, given={"head": head, "channels": 8}) for name, make in VITS.items() for head in ("linear", "upernet", "dpt")}
PROBES = {f"{name}_{head}_probe": Family(nets.TunedClassifier, make, given={"head": head}) for name, make in VITS.items() for head in ("linear", "attentive")}
FAMILIES = {
    "sam": Family(nets.SamNet, make_sam, SAM_NEW),
    "sam_box": Family(nets.SamNet, make_sam, SAM_NEW, {"prompt": "box"}),
    "sam_hq": Family(nets.SamNet, lambda f: make_sam(f, "sam_hq"), SAM_NEW),
    "sam2": Family(nets.SamNet, lambda f: make_sam(f, "sam2"), SAM_NEW),
    "medsam": Family(nets.SamNet, medsam, SAM_NEW, OF_MEDSAM),
    **DENSE,
    "timm_vit_linear": Family(nets.VitSegmenter, TIMM_VIT, given={"name": "test_vit", "head": "linear"}),
    "swin_upernet": Family(nets.SwinUperNet, hub("SwinForImageClassification", SWIN), r"^(head|auxiliary)\.", {"channels": 8, "drop_path": 0.0}),
    "segformer": Family(nets.SegformerNet, hub("SegformerForImageClassification", SEGFORMER), r"^net\.decode_head\."),
    "swinunetr": monai("SwinUNETR"), "monai_unet": monai("UNet"), "dynunet": monai("DynUNet"),
    "smp_unet": Family(nets.SmpNet, plain(smp), "^$", sizes=STRIDED),
    "deep_unet": Family(nets.DeepUnet, plain(lambda: nets.DeepUnet(depth=3, filters=4, supervised_levels=1, in_channels=3)), "^$",
                        {"depth": 3, "filters": 4, "supervised_levels": 1}),
    "timm_resnet": Family(nets.TimmNet, TIMM_RESNET, r"^net\.fc\.", {"name": "resnet10t"}),
    "timm_vit": Family(nets.TimmNet, TIMM_VIT, r"^net\.head\.", {"name": "test_vit"}),
    **PROBES,
    "timm_probe": Family(nets.TunedClassifier, TIMM_VIT, given={"name": "test_vit"}),
    "resnet_probe": Family(nets.TunedClassifier, TIMM_RESNET, given={"name": "resnet10t"}),
    "clip_probe": Family(nets.TunedClassifier, make_clip, given={"head": "attentive"}),
    "siglip_probe": Family(nets.TunedClassifier, lambda f: make_clip(f, "siglip")),
    "clip": Family(nets.ClipClassifier, make_clip, "^$"),
    "siglip": Family(nets.ClipClassifier, lambda f: make_clip(f, "siglip"), "^$"),
}
PRETRAINED = [k for k, f in FAMILIES.items() if issubclass(f.net, PretrainedNet)]
NO_ATTENTION = ("resnet_probe",)


def test_nothing_is_left_out():
    assert {f.net for f in FAMILIES.values()} == {getattr(nets, n) for n in nets.__all__}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A family -> its weights, written once."""
    written: dict[Any, str] = {}

    def path_of(which):
        make = FAMILIES[which].make
        if make not in written:
            torch.manual_seed(7)
            written[make] = str(make(tmp_path_factory.mktemp("hub") / "net"))
        return written[make]

    return path_of


@pytest.fixture(scope="module")
def net_of(saved):
    """(family, options) -> its net with these weights."""

    def build(which, /, seed=0, **options):
        family = FAMILIES[which]
        outputs = {"classes": ["edema", "mass"]} if family.net is nets.ClipClassifier else \
            {"num_classes": 2} if family.net in (nets.TimmNet, nets.TunedClassifier) else {"out_channels": 2}
        weights = options.pop("weights", None) or saved(which)
        torch.manual_seed(seed)
        return family.net(**family.given, **options, **outputs, weights=weights)

    return build


def answer(net, x):
    """What the head says."""
    return supervised(net(x)).logits[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_one_channel_of_any_size_is_what_its_three_colours_were(net_of, name):
    """All but the new parts comes from the file, for three channels and for one, and both say the same; each picture of a batch is on its own."""
    family = FAMILIES[name]
    colours, grey = net_of(name, 1, in_channels=3).eval(), net_of(name, 2, in_channels=1).eval()
    theirs, mine = colours.state_dict(), grey.state_dict()
    assert theirs.keys() == mine.keys()
    other = {k for k in mine if theirs[k].shape != mine[k].shape}
    assert other and all(theirs[k].ndim == 4 and (theirs[k].shape[1], mine[k].shape[1]) == (3, 1) for k in other)
    fresh = {k for k in mine if k not in other and not torch.equal(theirs[k], mine[k])}
    assert all(re.search(family.new, k) for k in fresh), sorted(fresh)[:5]
    assert fresh or family.new == "^$"
    grey.load_state_dict({k: theirs[k] for k in fresh}, strict=False)
    for size in family.sizes:
        x = torch.rand(2, 1, *size) * 2 - 1
        with torch.no_grad():
            found = answer(grey, x)
            assert found.shape == (2, 2) if found.ndim == 2 else found.shape == (2, 2, *size)
            assert torch.allclose(found, answer(colours, x.expand(-1, 3, -1, -1)), atol=1e-3 * float(found.abs().max()))
            assert torch.allclose(found[1:], answer(grey, x[1:]), atol=1e-3 * float(found.abs().max()))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_hub_id_that_is_not_here_fails_at_once(net_of, name, monkeypatch):
    def asked(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", asked)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"(?s)^model\.net\.weights: found hub id 'nobody/nothing'.*licence.*hf download nobody/nothing --local-dir FOLDER.*FOLDER or"):
        net_of(name, weights="nobody/nothing")
    assert time.monotonic() - began < 20  # of imports; the library alone would ask for minutes


@pytest.mark.parametrize("name", FAMILIES)
def test_shapes_that_differ_are_named_by_layer(net_of, saved, name, tmp_path):
    source = Path(saved(name))
    folder = shutil.copytree(source if source.is_dir() else source.parent, tmp_path / "net")
    file = folder / (source.name if source.is_file() else "model.safetensors")
    state = torch.load(file, weights_only=True) if file.suffix == ".pth" else load_file(file)
    wide = [k for k in state if state[k].ndim in (2, 4) and k.endswith("weight")]
    key = wide[len(wide) // 2]
    before = tuple(state[key].shape)
    state[key] = torch.cat([state[key], state[key]])
    torch.save(state, file) if file.suffix == ".pth" else save_file(state, file, {"format": "pt"})
    after = tuple(state[key].shape)
    with pytest.raises(InputError, match=r"(?s)^model\.net\.weights .*[\w.]+\.weight: file " + re.escape(f"{after}, net {before}")):
        net_of(name, weights=str(file if source.is_file() else folder))


def stepped(net, images):
    """Names of what learned, and what it was before, over one step of the optimizer that a task has."""
    before = {k: v.clone() for k, v in net.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(net, 0.01, 0.5, 0.9, 0.02))
    sum(x.float().square().sum() for x in supervised(net.train()(images)).logits).backward()
    learning = {n for n, p in net.named_parameters() if p.requires_grad}
    assert learning == {n for n, p in net.named_parameters() if p.grad is not None}  # DDP waits for the others
    optimizer.step()
    return learning, before


@pytest.mark.parametrize("tuning", ["frozen", "lora", "full"])
@pytest.mark.parametrize("name", PRETRAINED)
def test_what_is_frozen_stays_bit_for_bit_and_all_else_learns(net_of, name, tuning):
    if tuning == "lora" and name in NO_ATTENTION:
        with pytest.raises(InputError, match="lora for"):
            net_of(name, tuning="lora")
        return
    net, images = net_of(name, tuning=tuning, rank=2), torch.rand(2, 1, 64, 64) * 2 - 1
    start = f"{net.BACKBONE}."
    learning, before = stepped(net, images)
    inside = {n for n in learning if n.startswith(start)}
    assert not inside if tuning == "frozen" else inside and all("lora_" in n for n in inside) if tuning == "lora" else len(inside) > 10
    assert learning - inside and net.frozen == (tuning == "frozen")
    assert {m.training for m in net.get_submodule(net.BACKBONE).modules()} == {tuning != "frozen"}
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    if tuning != "full":  # weights, and statistics of batches: nothing that was loaded moved
        assert not {k for k in changed if k.startswith(start)} - inside
    assert inside <= changed | {n for n in inside if "lora_A" in n}  # whose gradient is 0 while B is
    if tuning == "lora":
        merged_says_the_same(net, images)


def merged_says_the_same(net, images):
    """Low-rank changes can be merged into the weights that they change."""
    from peft.tuners.lora import LoraLayer

    with torch.no_grad():
        found = answer(net.eval(), images)
        for layer in [m for m in net.modules() if isinstance(m, LoraLayer)]:
            change, weight = 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight, layer.base_layer.weight.clone()
            layer.merge()
            assert torch.allclose(layer.base_layer.weight, weight + change, atol=1e-6) and change.abs().max() > 0
        assert torch.allclose(answer(net, images), found, atol=1e-3 * float(found.abs().max()))


@pytest.mark.parametrize("name", PRETRAINED)
def test_rates_fall_from_the_head_to_the_embedding_of_pixels(net_of, name):
    net = net_of(name, tuning="full", in_channels=2)
    depths, start = layers_below_head(net), f"{net.BACKBONE}."
    assert {d for n, d in depths.items() if not n.startswith(start)} == {0}
    pixels = next(n for n, p in net.named_parameters() if n.startswith(start) and p.ndim == 4 and p.shape[1] == 2)
    assert depths[pixels] == max(depths.values()) > 1
    rates = {id(p): group["lr"] for group in parameter_groups(net, 1.0, 0.0, 0.5, 8.0) for p in group["params"]}
    for n, p in net.named_parameters():
        if p.requires_grad:
            assert rates[id(p)] == (0.5 ** depths[n] if n.startswith(start) else 8.0), n
