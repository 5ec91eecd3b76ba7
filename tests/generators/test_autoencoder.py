"""The autoencoder: what it learns, keeps of its latents, refuses, resumes and draws."""


from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import timm
import tiny_gan
import torch
from tiny_generator import fit_command, same_weights, sample_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.conditioning import Condition, Generator
from synthrad.data.conditions import blank_unlearned
from synthrad.errors import InputError
from synthrad.generators.autoencoder import Autoencoder
from synthrad.generators.loading import load_generator
from synthrad.lineage import key_id, project_key
from synthrad.records import Manifest

TINY = {"channels": (8, 16), "latent_channels": 2, "res_blocks": 1, "attention": False, "adversarial_from": 8}


def fit(batches=3, data=None, **kwargs):
    more = {k: kwargs.pop(k) for k in ("callbacks", "trainer_options", "precision") if k in kwargs}
    return tiny_gan.fit(data, Autoencoder(**{**TINY, "max_images": 8 * batches, **kwargs}), batches, **more)


class Squares(tiny_gan.Pictures):
    """A bright square somewhere, and its mask."""

    def batch(self, k, rank=0):
        case = super().batch(k, rank)
        case.image[:], case.masks[:] = -0.5, 0
        for i, (y, x) in enumerate(torch.randint(10, (8, 2), generator=torch.Generator().manual_seed(k)).tolist()):
            case.image[i, :, y : y + 6, x : x + 6], case.masks[i, :, y : y + 6, x : x + 6] = 0.5, 1
        return case


def test_it_learns_squares_with_their_masks_and_the_scale_of_their_latents():
    model, _ = fit(200, Squares(steps=200), lr=3e-3, ema_half_life_images=100.0, adversarial_weight=0.0, perceptual=None)
    unseen = Squares().batch(1000)
    made = model.eval().reconstruct(unseen)
    assert (made.image - unseen.image).abs().mean() < 0.1 < unseen.image.std()
    assert (made.masks == unseen.masks).float().mean() > 0.97
    mean, deviation = model.to_latents(model.pictures(unseen))
    assert mean.shape == (8, 2, 8, 8) and mean.std().item() == pytest.approx(1, abs=0.25)  # scaled
    assert torch.allclose(model.to_pictures(mean), model.net_ema.decode(model.net_ema.encode(model.pictures(unseen))[0]), atol=1e-4)
    assert deviation.mean() < 0.5  # little noise at so small a weight of the divergence


def test_a_codebook_is_near_what_is_quantised():
    """With the weight of a KL divergence latents drift away from the codes (found: 0.2 of their variance, here 0.03)."""
    model, _ = fit(150, Squares(steps=150), lr=3e-3, ema_half_life_images=50.0, adversarial_weight=0.0, perceptual=None, bottleneck="vq", codes=32)
    net = model.eval().net_ema
    latents = net.encode(model.pictures(Squares().batch(1000)))[0]
    gap = (net.quantizer(latents)[1] - latents).square().mean()
    assert model.bottleneck_weight == 1 and gap < 0.1 * latents.var()
    assert Autoencoder().bottleneck_weight == 1e-6 and Autoencoder(bottleneck_weight=0.5).bottleneck_weight == 0.5


def test_the_divergence_pulls_latents_to_the_prior():
    free, bound = (fit(60, Squares(steps=60), lr=3e-3, ema_half_life_images=50.0, adversarial_weight=0.0, perceptual=None,
                       bottleneck_weight=w)[0].eval() for w in (0.0, 10.0))
    pictures = free.pictures(Squares().batch(1000))
    gap = lambda m: float((m.net_ema.encode(pictures)[1] - 1).abs().mean())  # noqa: E731
    assert gap(bound) < 0.1 < gap(free)


@pytest.mark.parametrize("options", [{}, {"bottleneck": "vq", "codes": 8}, {"masks": "none"}, {"adversarial_weight": 0.0, "perceptual": None}])
def test_every_part_learns(options):
    model, trainer = fit(3, **options)
    torch.manual_seed(0)
    fresh = Autoencoder(**{**TINY, "max_images": 24, **options})
    fresh.build(tiny_gan.Pictures().spec())
    still = [name for name, a in model.net.named_parameters() if a.requires_grad and torch.equal(a, fresh.net.get_parameter(name))]
    assert not still and model.images_seen == 24 and torch.isfinite(model.latent_scale)
    if model.discriminator is not None:
        state = trainer.optimizers[1].state_dict()["state"]
        assert state and all(int(s["step"]) == 2 for s in state.values())  # from 8 images on: not in the first of three steps
    assert model.picture_channels == (1 if options.get("masks") == "none" else 4)


def test_the_discriminators_loss_is_least_squares_of_real_and_made():
    seen = []

    class Spy(Autoencoder):
        def step(self, optimizer, name, n, *losses):
            if name == "loss_d":
                opinion = self.discriminator(self.pictures(tiny_gan.Pictures().batch(1)))[-1]
                seen.append((float(losses[1](slice(None))), float((opinion - 1).square().mean() / 2)))
                made, *_ = (cell.cell_contents for cell in losses[0].__closure__ if isinstance(cell.cell_contents, torch.Tensor))
                seen.append((float(losses[0](slice(None))), float(self.discriminator(made)[-1].square().mean() / 2)))
            super().step(optimizer, name, n, *losses)

    model = Spy(**{**TINY, "max_images": 16, "adversarial_from": 8})
    tiny_gan.fit(tiny_gan.Pictures(), model, 2)
    assert len(seen) == 2 and all(found == pytest.approx(expected, rel=1e-5) for found, expected in seen)


def test_it_is_a_generator_from_its_prior_and_seeds_alone_decide():
    model, _ = fit()
    assert isinstance(model.eval(), Generator)
    three, one = model.sample(Condition(), [5, 6, 7]), model.sample(Condition(), [6])
    assert three.image.shape == (3, 1, 16, 16) and three.masks.shape == (3, 1, 16, 16) and three.masks.dtype == torch.int64
    assert torch.allclose(one.image[0], three.image[1], atol=1e-5) and not torch.allclose(three.image[0], three.image[1], atol=1e-4)
    none, _ = fit(1, masks="none")
    assert none.eval().sample(Condition(), [5]).masks is None


@pytest.mark.parametrize(("options", "words"), [
    ({"adversarial_weight": 0.0}, "which trains none"),
    ({"bottleneck_weight": -1.0}, "bottleneck_weight: found -1"),
    ({"perceptual": "no_such_file.pt"}, "model.perceptual"),
    ({"perceptual_linear": "no_such_file.pt"}, "model.perceptual_linear"),
    ({"channels": (8, 12)}, "multiples of 8"),
    ({"channels": (8, 8, 8, 8, 8, 8)}, "divisible by 32"),
    ({"channels": ()}, "model.channels: found no level"),
    ({"latent_channels": 0}, "latent_channels: found 0"),
    ({"bottleneck": "vq", "codes": 0}, "model.codes: found 0"),
    ({"ema_rampup": -1.0}, "ema_rampup: found -1"),
])
def test_what_cannot_work_is_refused_before_the_first_step(options, words):
    with pytest.raises(InputError, match=words):
        fit(**options)


def test_attributes_that_are_asked_for_become_unknown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model, info = Autoencoder(**TINY), replace(tiny_gan.INFO, classes=(), attributes=("sex",))
    spec = tiny_gan.Pictures(info=info).spec()
    model.build({**spec, "attributes": {"sex": ["F", "M"]}, "absent": [], "key_id": key_id(project_key())})
    asked = pd.DataFrame({"attribute:sex": ["F", "M", ""]})
    assert set(blank_unlearned(asked, model.spec, info)["attribute:sex"]) == {""}
    assert "2 of 3 conditions ask for values of 'sex'" in capsys.readouterr().out
    with pytest.raises(InputError, match="'X'"):
        blank_unlearned(pd.DataFrame({"attribute:sex": ["X"]}), model.spec, info)


def test_a_codebook_has_no_prior():
    model, _ = fit(1, bottleneck="vq", codes=8)
    with pytest.raises(InputError, match="no prior"):
        model.eval().sample(Condition(), [0])


def test_a_file_of_perceptual_weights_is_needed_once_and_named_in_the_lineage(tmp_path):
    weights, path = tmp_path / "net.pt", tmp_path / "last.ckpt"
    torch.save(timm.create_model("resnet10t", pretrained=False, in_chans=3).state_dict(), weights)
    data = tiny_gan.Pictures(size=(32, 32))
    torch.save({f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1) for k, c in enumerate((64, 64, 128))}, linear := tmp_path / "lpips.pth")
    model, trainer = fit(1, data, perceptual=str(weights), perceptual_arch="resnet10t", perceptual_linear=str(linear))
    trainer.save_checkpoint(path)
    weights.unlink()
    linear.unlink()
    loaded, _, lineage, _ = load_generator(path)
    assert [(f.kind, f.origin) for f in lineage.fitted] == [("weights", "unknown")] * 2 + [("generator", "known")]
    assert len(model.distance.linear) == 3
    for name, tensor in model.distance.state_dict().items():
        assert torch.equal(tensor, loaded.distance.state_dict()[name]), name


def command(real, run, images=24, **more):
    return fit_command(real, run, "Autoencoder", 32, images, **more)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autoencoder") / "real"
    make(folder)
    return folder


def test_a_resumed_fit_ends_as_an_uninterrupted_one_and_draws_without_labels(real, tmp_path, capsys):
    assert main(command(real, tmp_path / "whole")) == 0
    assert main(command(real, tmp_path / "parts", 12)) == 0
    assert main([*command(real, tmp_path / "parts"), f"--ckpt_path={newest_valid(tmp_path / 'parts')}"]) == 0
    whole, parts = newest_valid(tmp_path / "whole"), newest_valid(tmp_path / "parts")
    assert same_weights(whole, parts)
    assert main(sample_command(whole, real, tmp_path / "set")) == 0
    made = Manifest.read(tmp_path / "set")
    assert np.isnan(made.labels).all() and all(m is not None for r in made for m in r.masks)
    other = command(real, tmp_path / "parts", bottleneck="vq", codes=8)
    assert main([*other, f"--ckpt_path={parts}"]) == 2
    assert load_generator(whole)[0].latent_scale == pytest.approx(float(load_generator(parts)[0].latent_scale))


def test_images_alone_are_a_set_without_masks(real, tmp_path):
    assert main([*command(real, tmp_path / "run", 8, masks="none"), "--trainer.callbacks+=synthrad.callbacks.adherence.Adherence",
                 "--trainer.callbacks.every_images=8", "--trainer.callbacks.number=10", "--trainer.callbacks.steps=1"]) == 0
    assert main(sample_command(newest_valid(tmp_path / "run"), real, tmp_path / "set")) == 0
    made = Manifest.read(tmp_path / "set")
    assert len(made) == 10 and all(m is None for r in made for m in r.masks)
