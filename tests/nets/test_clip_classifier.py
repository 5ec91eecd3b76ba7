import pytest
import torch
from tiny_clip import make_clip
from transformers import AutoTokenizer, CLIPModel, SiglipModel

from synthrad.errors import InputError
from synthrad.nets.clip_classifier import ClipClassifier
from synthrad.nets.tuning import trainable

MEAN, SD = torch.tensor([0.48, 0.45, 0.4]).view(3, 1, 1), torch.tensor([0.26, 0.26, 0.27]).view(3, 1, 1)
CLASSES = ["edema", "left_mass"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(make_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    return str(make_clip(tmp_path_factory.mktemp("siglip"), "siglip"))


@torch.no_grad()
def test_zero_shot_is_the_librarys_softmax_over_two_prompts(clip):
    net = ClipClassifier(weights=clip, classes=CLASSES, words={"edema": "fluid"}, templates=["a {}"], negatives=["no {}"]).eval()
    grey = torch.rand(2, 1, 32, 32) * 2 - 1
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), AutoTokenizer.from_pretrained(clip)
    for k, word in enumerate(("fluid", "left mass")):
        told = model(pixel_values=((grey + 1) / 2 - MEAN) / SD, **tokenizer([f"a {word}", f"no {word}"], return_tensors="pt", padding=True))
        assert torch.allclose(net(grey)[:, k].sigmoid(), told.logits_per_image.softmax(1)[:, 0], atol=1e-5)
    assert trainable(net) == 0 and torch.equal(net(net.encode(grey)), net(grey))


@torch.no_grad()
def test_siglip_without_negatives_is_the_librarys_sigmoid(siglip):
    net = ClipClassifier(weights=siglip, classes=CLASSES).eval()
    grey = torch.rand(2, 1, 32, 32) * 2 - 1
    tokenizer = AutoTokenizer.from_pretrained(siglip)
    given = tokenizer(["edema", "left mass"], return_tensors="pt", padding="max_length", max_length=32)
    told = SiglipModel.from_pretrained(siglip).eval()(pixel_values=((grey + 1) / 2 - MEAN) / SD, input_ids=given["input_ids"], attention_mask=given["attention_mask"])
    assert net.absent is None and torch.allclose(net(grey), told.logits_per_image, atol=1e-4)


def test_templates_are_averaged_at_length_one(clip):
    one, two, both = (ClipClassifier(weights=clip, classes=CLASSES, templates=t, negatives=[]).present for t in (["a {}"], ["the {}"], ["a {}", "the {}"]))
    assert torch.allclose(both, torch.nn.functional.normalize(one + two), atol=1e-6) and torch.allclose(both.norm(dim=1), torch.ones(2))


def test_what_learns_starts_from_the_prompts(clip):
    grey, plain = torch.rand(3, 1, 40, 48), ClipClassifier(weights=clip, classes=CLASSES).eval()
    for tuning in ("frozen", "lora", "full"):
        net = ClipClassifier(weights=clip, classes=CLASSES, tuning=tuning, rank=2).train()
        assert torch.allclose(net(grey), plain(grey), atol=1e-5)  # any size, too
        net(grey).sum().backward()
        assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
        inside = {n for n, p in net.backbone.named_parameters() if p.requires_grad}
        assert (not inside) if tuning == "frozen" else all("lora_" in n for n in inside) if tuning == "lora" else len(inside) > 20
        assert {n for n, p in net.named_parameters() if p.requires_grad and not n.startswith("backbone.")} == {"present", "absent", "log_scale", "bias"}
        assert net.frozen == (tuning == "frozen") and net.backbone.training != net.frozen


def test_refusals(clip, tmp_path):
    with pytest.raises(InputError, match="prompts mean nothing"):
        ClipClassifier(classes=CLASSES)
    with pytest.raises(InputError, match=r"model\.net\.templates"):
        ClipClassifier(weights=clip, classes=CLASSES, templates=["a finding"])
    with pytest.raises(InputError, match=r"model\.net\.words"):
        ClipClassifier(weights=clip, classes=CLASSES, words={"oedema": "x"})
    with pytest.raises(InputError, match="too long"):
        ClipClassifier(weights=clip, classes=["a" * 60])
    with pytest.raises(InputError, match="zero_shot, frozen, lora or full"):
        ClipClassifier(weights=clip, classes=CLASSES, tuning="some")
    make_clip(tmp_path / "bare")
    for file in (tmp_path / "bare").glob("*token*"):
        file.unlink()
    with pytest.raises(InputError, match="without a tokenizer"):
        ClipClassifier(weights=str(tmp_path / "bare"), classes=CLASSES)
