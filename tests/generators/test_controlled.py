"""A frozen diffusion model that a ControlNet steers by masks."""

import copy
import shutil

import numpy as np
import pytest
import torch
from tiny_generator import SMALL, fit_command, same_weights, sample_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.conditioning import Condition
from synthrad.errors import InputError
from synthrad.generators.controlled import ControlledDiffusion
from synthrad.generators.loading import load_generator
from synthrad.nets.diffusion_unet import ControlBranch, DiffusionUNet
from synthrad.records import Manifest

ALONE = ["--data.layers=[]", "--data.min_subjects=2"]
SMALL["ControlledDiffusion"] = {"steps": 3, "warmup_images": 0}


def command(real, run, base, images=24, **more):
    return [*fit_command(real, run, "ControlledDiffusion", 16, images, base=base, **more), "--data.min_subjects=2"]


def fitted(real, run, model="Diffusion", more=(), **options):
    assert main([*fit_command(real, run, model, 16, **options), *more]) == 0
    return newest_valid(run)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controlled") / "real"
    make(folder, rows=48)
    return folder


@pytest.fixture(scope="module")
def base(real, tmp_path_factory):
    return fitted(real, tmp_path_factory.mktemp("base"), more=ALONE, steps=2)


@pytest.mark.parametrize(("halvings", "context"), [(0, None), (2, 12)])
def test_an_untrained_branch_is_a_copy_that_changes_nothing_and_a_trained_one_reads_its_picture(halvings, context):
    torch.manual_seed(0)
    net = DiffusionUNet((16, 16), 2, 2, 3, (8, 16), (False, True), 1, 8, context)
    net.net.out[2].conv.weight.data.normal_()
    branch, x, t, c = ControlBranch(net, 3, halvings), torch.randn(2, 2, 16, 16), torch.rand(2), torch.randn(2, 3)
    tokens, side = (None if context is None else torch.randn(2, 5, context)), 16 * 2**halvings
    theirs = net.net.state_dict()
    shared = [k for k in branch.net.state_dict() if k in theirs]
    assert any("down_blocks" in k for k in shared) and any("class_embedding" in k for k in shared)
    assert all(torch.equal(branch.net.state_dict()[k], theirs[k]) for k in shared)
    one, other = torch.randn(2, 2, 3, side, side)
    plain = net(x, t, c, tokens)
    torch.testing.assert_close(net(x, t, c, tokens, branch(x, t, c, tokens, one)), plain, rtol=0, atol=0)
    for p in branch.parameters():
        p.data += 0.05 * torch.randn_like(p)
    seen = [net(x, t, c, tokens, branch(x, t, c, tokens, m)) for m in (one, other)]
    assert not torch.allclose(seen[0], plain) and not torch.allclose(seen[0], seen[1])


def test_a_branch_learns_beside_a_frozen_base_whose_file_is_not_needed_later(real, base, tmp_path):
    shutil.copy(base, tmp_path / "base.ckpt")
    assert main(command(real, tmp_path / "run", tmp_path / "base.ckpt")) == 0
    (tmp_path / "base.ckpt").unlink()
    model, info, lineage, spec = load_generator(newest_valid(tmp_path / "run"))
    source = load_generator(base)[0]
    for name, weight in source.net_ema.state_dict().items():
        assert torch.equal(weight, model.base.state_dict()[name])
    assert model.wants_masks and spec["layers"] == {"tooth": ["crown", "root"]} and [f.kind for f in lineage.fitted] == ["weights", "generator"]
    assert (model.hparams.schedule, list(model.hparams.channels)) == (source.hparams.schedule, [8, 16])
    moved = [n for n, p in model.net.named_parameters() if not torch.equal(p, ControlBranch(source.net_ema, 3).get_parameter(n))]
    assert any("controlnet_mid_block" in n for n in moved)
    model.base.net.out[2].conv.weight.data.normal_(0, 0.1)
    for p in model.net_ema.parameters():
        p.data += 0.05 * torch.randn_like(p)
    ask = lambda masks: model.sample(Condition(labels=np.array([[1, 0]]), masks=masks), [3])  # noqa: E731
    crown = torch.zeros(1, 1, 16, 16, dtype=torch.long)
    crown[..., 4:12, 4:12] = 1
    drawn, none = ask(crown), ask(None)
    assert torch.equal(drawn.masks, crown) and none.masks is None and not torch.equal(drawn.image, none.image)
    assert not torch.equal(drawn.image, ask(crown.flip(-1).roll(3, -1)).image)


def test_an_untrained_branch_draws_what_the_base_draws(real, base):
    source = load_generator(base)[0]
    source.net_ema.net.out[2].conv.weight.data.normal_(0, 0.1)
    model = ControlledDiffusion(str(base), steps=2)
    model.build({**copy.deepcopy(source.spec), "layers": {"tooth": ["crown", "root"]}})
    model.base.load_state_dict(source.net_ema.state_dict())
    ask = Condition(labels=np.array([[1, 0]] * 2), attributes=[{"sex": "f"}] * 2)
    assert torch.equal(model.eval().sample(ask, [1, 2]).image, source.sample(ask, [1, 2]).image)


def test_guidance_needs_a_base_that_was_without_a_condition(real, tmp_path):
    base = fitted(real, tmp_path / "told", more=ALONE, drop_rate=0)
    spec = {**copy.deepcopy(load_generator(base)[0].spec), "layers": {"tooth": ["crown", "root"]}}
    with pytest.raises(InputError, match="guidance: found 2.0, and the generator was trained with drop_rate 0"):
        ControlledDiffusion(str(base), guidance=2.0).build(spec)
    model = ControlledDiffusion(str(base))
    model.build(spec)
    with pytest.raises(InputError, match="trained with drop_rate 0"):
        model.draw_with(guidance=1.5)


def test_a_resumed_fit_ends_as_an_uninterrupted_one_and_samples(real, base, tmp_path):
    assert main(command(real, tmp_path / "whole", base)) == 0
    assert main(command(real, tmp_path / "parts", base, 12)) == 0
    assert main([*command(real, tmp_path / "parts", base), f"--ckpt_path={newest_valid(tmp_path / 'parts')}"]) == 0
    other = fitted(real, tmp_path / "other", more=ALONE, steps=2, lr=0.01)
    assert main([*command(real, tmp_path / "parts", other, 48), f"--ckpt_path={newest_valid(tmp_path / 'parts')}"]) == 2
    whole = newest_valid(tmp_path / "whole")
    assert same_weights(whole, newest_valid(tmp_path / "parts"))
    assert main(sample_command(whole, real, tmp_path / "set")) == 0
    made, train = Manifest.read(tmp_path / "set"), Manifest.read(real).where(split="train")
    assert set(made.column("origin:mask")) <= set(train.column("mask_digest")) - {""}
    assert {f.kind for f in made.info.lineage.fitted} == {"weights", "generator", "masks"}


def test_prompts_and_latents_are_the_base_s(real, tmp_path):
    """Masks at the pictures' size steer latents of a quarter; the base's reader of prompts serves the branch."""
    encoder = fitted(real, tmp_path / "ae", "Autoencoder", ALONE)
    prompt = [*ALONE, "--data.prompt={findings}"]
    base = fitted(real, tmp_path / "base", more=prompt, autoencoder=encoder, text="words", text_width=16, vector="false")
    assert main([*command(real, tmp_path / "run", base), "--data.prompt={findings}"]) == 0
    model = load_generator(newest_valid(tmp_path / "run"))[0]
    assert model.autoencoder is not None and model.base.words is not None and not hasattr(model.net_ema, "words")
    masks = torch.zeros(2, 1, 16, 16, dtype=torch.long)
    assert model.sample(Condition(text=["caries", ""], masks=masks), [1, 2]).image.shape == (2, 1, 16, 16)


@pytest.mark.parametrize(("kind", "more", "words"), [
    ("missing", (), "no file 'missing.ckpt'"), ("StyleGAN2", (), "a StyleGAN2; expected a Diffusion"),
    ("masks", (), "a model of images with masks of tooth"), ("base", ["--data.classes=[caries]"], "untaught []"),
    ("base", ["--model.mask_drop_rate=10"], "model.mask_drop_rate: found 10"),
    ("base", ["--data.prompt={findings}"], "data.prompt: found {'template': '{findings}'"),
    ("base", ["--data.size=[32,32]"], "size [16, 16]"), ("prompts", (), "data.prompt: found none"),
])
def test_a_base_that_does_not_fit_is_one_message(kind, more, words, real, base, tmp_path, capsys):
    made = {"missing": lambda: "missing.ckpt", "base": lambda: base,
            "StyleGAN2": lambda: fitted(real, tmp_path / "gan", "StyleGAN2", ALONE),
            "masks": lambda: fitted(real, tmp_path / "masks", more=["--data.min_subjects=2"]),
            "prompts": lambda: fitted(real, tmp_path / "p", more=[*ALONE, "--data.prompt={findings}"], text="words")}[kind]()
    capsys.readouterr()
    assert main([*command(real, tmp_path / "run", made), *more]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
