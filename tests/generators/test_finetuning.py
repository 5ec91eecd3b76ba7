from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_gan import INFO, TINY, Pictures, fit, trainer

from synthrad.conditioning import Condition
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.generators import finetuning
from synthrad.generators.finetuning import frozen_parts
from synthrad.generators.gan import StyleGAN2
from synthrad.generators.loading import load_generator
from synthrad.lineage import Fitted, Lineage

# b stays, a goes, c is new; of the layer organ, `right` stays, `left` goes; the order changes; a new layer
OTHER = replace(INFO, name="other", id="other", classes=("c", "b"), layers={"tumour": ("mass",), "organ": ("right",)})
NOTHING_SHARED = replace(INFO, name="third", id="third", classes=("x",), layers={})
RENAMED = replace(INFO, name="fifth", id="fifth", layers={"organ": ("right", "middle")})  # as many, but others
UNLABELLED = replace(INFO, name="fourth", id="fourth", classes=())


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A checkpoint of three steps on INFO, and its model."""
    path = tmp_path_factory.mktemp("source") / "last.ckpt"
    model, made = fit(Pictures())
    made.save_checkpoint(path)
    return path, model


class Other(Pictures):
    def batch(self, k, rank=0):
        case = super().batch(k, rank)
        case.masks = case.masks.clamp(max=1)
        return case


def begin(path, info, **kwargs):
    """The model as it is before its first step."""
    model = StyleGAN2(**{**TINY, "max_images": 8, "init_from": str(path), **kwargs})
    torch.manual_seed(1)
    seen = {}
    model.training_step = lambda *_: seen.update({k: v.clone() for k, v in model.state_dict().items()})
    made = trainer(max_steps=1, limit_train_batches=1)
    made.fit_loop.max_epochs = 1
    made.fit(model, Other(info=info))
    assert seen
    return model


def test_what_both_have_is_kept_and_what_is_new_starts_anew(source, capsys):
    path, old = source
    model = begin(path, OTHER)
    said = capsys.readouterr().out
    assert "dataset 'tiny'" in said and "label c re-initialised, label a left behind" in said
    assert "mask tumour background, mask tumour mass re-initialised, mask organ left left behind" in said
    torch.manual_seed(1)
    fresh = StyleGAN2(**TINY)
    fresh.build(Other(info=OTHER).spec())
    for net in ("generator", "generator_ema", "discriminator"):
        mine, theirs = getattr(model, net).state_dict(), getattr(old, net).state_dict()
        for key in mine:
            if "embed.weight" in key:  # columns: value of c, of b, known c, known b; there: of a, of b, known a, known b
                assert torch.equal(mine[key][:, [1, 3]], theirs[key][:, [1, 3]])
                assert not torch.isin(mine[key][:, [0, 2]], theirs[key]).any()
            elif key.startswith("to_image.") and "affine" not in key:  # image, tumour (2), organ (background, right)
                assert torch.equal(mine[key][[0, 3, 4]], theirs[key][[0, 1, 3]])
                assert "bias" in key or not torch.isin(mine[key][1:3], theirs[key]).any()
            elif key == "from_image.weight":  # 5 inputs where there were 4: the layer divides by the root of that
                torch.testing.assert_close(mine[key][:, [0, 3, 4]] / 5**0.5, theirs[key][:, [0, 1, 3]] / 4**0.5)
            else:
                assert torch.equal(mine[key], theirs[key]), key
    ema, net = model.generator_ema.state_dict(), model.generator.state_dict()
    assert torch.equal(ema["mapping.embed.weight"][:, 0], net["mapping.embed.weight"][:, 0])  # one start for both
    assert not torch.equal(ema["const"], net["const"]) and model.path_mean == old.path_mean > 0
    assert model.images_seen == model.ada.p == 0


def test_a_shared_condition_draws_what_it_drew(source):
    """With the classes and layers it had, in another order, the generator is the same function."""
    path, old = source
    turned = replace(INFO, id="turned", classes=("b", "a"), layers={"organ": ("right", "left")})
    model = begin(path, turned)
    one = old.eval().sample(Condition(labels=np.array([[1.0, 0]] * 2)), [3, 4])
    other = model.eval().sample(Condition(labels=np.array([[0.0, 1]] * 2)), [3, 4])
    torch.testing.assert_close(one.image, other.image, atol=1e-5, rtol=0)
    swap = torch.tensor([0, 2, 1])
    assert (swap[one.masks] == other.masks).float().mean() > 0.99


@pytest.mark.parametrize("info", [NOTHING_SHARED, UNLABELLED], ids=["nothing shared", "no condition"])
def test_datasets_that_share_little(source, info, capsys):
    path, old = source
    model = begin(path, info)
    assert torch.equal(model.generator.convs[0].weight, old.generator.convs[0].weight)
    if info is UNLABELLED:
        assert "last layer" in capsys.readouterr().out
        z = model.hparams.z_dim  # the layer had z + w inputs and now has z: what z does must stay the same
        mine, theirs = model.generator.mapping.layers[0], old.generator.mapping.layers[0]
        torch.testing.assert_close(mine.weight * mine.scale, theirs.weight[:, :z] * theirs.scale)
    back = begin_from_unlabelled(model)
    assert torch.equal(back.generator.convs[0].weight, old.generator.convs[0].weight)


@pytest.fixture(scope="module")
def given_source(tmp_path_factory):
    """A checkpoint of a generator that draws from masks, and its model."""
    path = tmp_path_factory.mktemp("given") / "last.ckpt"
    model, made = fit(steps=2, masks="given")
    made.save_checkpoint(path)
    return path, model


@pytest.mark.parametrize(("before", "after", "info", "same"), [
    ("given", "given", INFO, {0: 0, 1: 1, 2: 2}), ("draw", "given", INFO, {0: 0, 1: 1, 2: 2}), ("given", "draw", INFO, {0: 0, 1: 1, 2: 2}),
    ("given", "given", OTHER, {2: 0, 3: 2}), ("given", "given", RENAMED, {0: 0, 1: 2}),
], ids=["given-given", "draw-given", "given-draw", "other number of structures", "other structures"])
def test_generators_that_draw_from_masks(source, given_source, capsys, before, after, info, same):
    """`same`: mask channels of the new one -> of the source."""
    path, old = given_source if before == "given" else source
    model = begin(path, info, masks=after)
    said = capsys.readouterr().out
    assert ("given mask re-initialised" in said, "given mask left behind" in said) == (before == "draw", after == "draw")
    mine, theirs = model.generator.state_dict(), old.generator.state_dict()
    image = "to_image.1.weight"
    assert torch.equal(mine[image][0], theirs[image][0]) and torch.equal(mine["convs.0.weight"], theirs["convs.0.weight"])
    assert len(mine[image]) == (1 if after == "given" else 4) and not torch.isin(mine[image][1:], theirs[image]).any()
    pairs = [(model.discriminator.from_image.weight, old.discriminator.from_image.weight, 1)]
    pairs += [(mine[k], theirs[k], 0) for k in mine if k in theirs and k.endswith("by_mask.hidden.weight")]
    assert len(pairs) == (1 + len(old.generator.convs) if before == after else 1)
    for new, was, first in pairs:  # first: the image channels before those of the masks
        for i in range(first, new.shape[1]):
            if i - first in same:  # in use, a weight is divided by the root of the number of inputs
                torch.testing.assert_close(new[:, i] / new.shape[1]**0.5, was[:, same[i - first] + first] / was.shape[1]**0.5)
            else:
                assert not torch.isin(new[:, i], was).any()
    if before == after and info is INFO:
        assert all(torch.equal(mine[k], theirs[k]) for k in theirs) and mine.keys() == theirs.keys()


def begin_from_unlabelled(model):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        model.trainer.save_checkpoint(Path(folder) / "a.ckpt")
        return begin(Path(folder) / "a.ckpt", INFO)


@pytest.mark.parametrize(("options", "data", "words"), [
    ({}, {"size": (32, 32)}, "pictures of .16, 16.*.32, 32"), ({"channel_base": 128}, {}, "channel_base=64.*model.channel_base=128"),
    ({"z_dim": 4, "mapping_depth": 1}, {}, "z_dim=8, mapping_depth=2"), ({"freeze_d": 9}, {}, "freeze_d.*9.*at most 2"),
    ({"init_from": "nowhere.ckpt"}, {}, "model.init_from.*no file 'nowhere.ckpt'"),
])
def test_a_source_that_does_not_fit(source, options, data, words):
    with pytest.raises(InputError, match=words):
        fit(Pictures(**data), steps=1, **{"init_from": str(source[0]), **options})


def test_files_that_are_no_source(source, tmp_path):
    torn = tmp_path / "torn.ckpt"
    torn.write_bytes(source[0].read_bytes()[:2000])
    with pytest.raises(InputError, match="cannot be read"):
        fit(steps=1, init_from=str(torn))
    spoiled = torch.load(source[0], weights_only=True)
    spoiled["state_dict"]["generator.const"][0, 0, 0, 0] = float("nan")
    torch.save(spoiled, tmp_path / "nan.ckpt")
    with pytest.raises(InputError, match="const is not finite"):
        fit(steps=1, init_from=str(tmp_path / "nan.ckpt"))


def test_lineage_names_both_also_after_a_resume_and_a_second_fine_tuning(source, tmp_path):
    path, _ = source
    model, made = fit(Other(info=OTHER), steps=2, init_from=str(path))
    made.save_checkpoint(tmp_path / "a.ckpt")
    own, before = {"subject of other"}, {"subject of tiny"}

    def check(checkpoint, subjects, parts):
        _, info, lineage, spec = load_generator(checkpoint)
        assert lineage.trained_on() == subjects and lineage.fingerprints() == {s.replace("subject", "image") for s in subjects}
        assert [f.kind for f in lineage.fitted] == ["weights"] * (parts - 1) + ["generator"]
        assert all(f.origin == "known" and f.key_id == "k" for f in lineage.fitted)
        assert lineage.fitted[0].digest == file_digest(path) and lineage.fitted[-1].digest == file_digest(checkpoint)
        assert set(spec["trained_on"]) == set(lineage.fitted[-1].trained_on)

    check(tmp_path / "a.ckpt", own | before, 2)
    path_gone = StyleGAN2(**{**TINY, "max_images": 32, "init_from": "gone.ckpt"})
    torch.manual_seed(0)
    again = trainer()
    again.fit(path_gone, Other(info=OTHER), ckpt_path=tmp_path / "a.ckpt", weights_only=True)  # resumes; the source may be gone
    assert path_gone.images_seen == 32
    again.save_checkpoint(tmp_path / "b.ckpt")
    check(tmp_path / "b.ckpt", own | before, 2)
    third, made = fit(Other(info=NOTHING_SHARED), steps=1, init_from=str(tmp_path / "b.ckpt"))
    made.save_checkpoint(tmp_path / "c.ckpt")
    check(tmp_path / "c.ckpt", {"subject of third"} | own | before, 3)
    plain = Lineage((Fitted("generator", "d", "known", frozenset({"x"})),))
    assert plain.trained_on() == {"x"}


def test_the_average_is_not_forgotten(source):
    """With the ramp of a fresh training, the first step would replace it by the generator."""
    path, old = source
    model, _ = fit(steps=1, init_from=str(path), ema_half_life_images=8)
    halfway = (old.generator_ema.const + model.generator.const) / 2
    torch.testing.assert_close(model.generator_ema.const, halfway)


@pytest.mark.parametrize("freeze", [0, 1, 2])
def test_frozen_blocks_stay_and_the_others_learn(source, freeze):
    path, old = source
    model, _ = fit(steps=2, init_from=str(path), freeze_d=freeze)
    d, before = model.discriminator, old.discriminator
    same = [torch.equal(a.conv0.weight, b.conv0.weight) for a, b in zip(d.blocks, before.blocks, strict=True)]
    assert same == [k < freeze for k in range(2)]
    assert torch.equal(d.from_image.weight, before.from_image.weight) == (freeze > 0)
    assert not torch.equal(d.conv.weight, before.conv.weight) and not torch.equal(model.generator.const, old.generator.const)


def test_an_input_with_new_channels_is_never_frozen(source, tmp_path):
    model, made = fit(Other(info=OTHER), steps=1, init_from=str(source[0]), freeze_d=1)
    made.save_checkpoint(tmp_path / "a.ckpt")
    before = model.discriminator.from_image.weight.detach().clone(), model.discriminator.blocks[0].conv0.weight.detach().clone()
    again = StyleGAN2(**{**TINY, "max_images": 16, "init_from": "gone.ckpt", "freeze_d": 1})
    trainer().fit(again, Other(info=OTHER), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert not torch.equal(again.discriminator.from_image.weight, before[0])  # on a resume too
    assert torch.equal(again.discriminator.blocks[0].conv0.weight, before[1])
    assert frozen_parts(model.discriminator, 0, True) == []


def test_rates_are_the_sources_for_what_both_know():
    def spec(classes, rates, values=("F", "M")):
        return {"classes": list(classes), "attributes": {"sex": list(values)}, "rates": rates}

    own, theirs = spec("ab", [0.1, 0.2, 0.5, 0.5]), spec("bc", [0.7, 0.8, 0.4, 0.6])
    assert finetuning.shared_rates(own, theirs) == [0.1, 0.7, 0.4, 0.6]
    assert finetuning.shared_rates(own, {**theirs, "rates": None}) is None
    assert finetuning.shared_rates({**own, "rates": None}, theirs) is None
