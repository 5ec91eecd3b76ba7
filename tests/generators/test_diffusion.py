"""The diffusion generator: what it learns, refuses, resumes and draws."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_gan
import torch
from tiny_generator import fit_command, same_weights, sample_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.conditioning import Condition, Generator
from synthrad.errors import InputError, RunError
from synthrad.generators.diffusion import Diffusion
from synthrad.records import Manifest

TINY = {"channels": (8, 16), "attention": (False, True), "res_blocks": 1, "head_channels": 8, "warmup_images": 0, "steps": 4}


def fit(batches=3, data=None, **kwargs):
    more = {k: kwargs.pop(k) for k in ("callbacks", "trainer_options", "precision") if k in kwargs}
    return tiny_gan.fit(data, Diffusion(**{**TINY, "max_images": 8 * batches, **kwargs}), batches, **more)


class OneSquare(tiny_gan.Pictures):
    """One picture and its mask, again and again: what a net of any size can learn."""

    def batch(self, k, rank=0):
        case = super().batch(0, rank)
        case.image[:], case.masks[:] = -0.5, 0
        case.image[..., 4:12, 4:12], case.masks[..., 4:12, 4:12] = 0.5, 1
        return case


LONG = {"lr": 3e-3, "steps": 10, "ema_half_life_images": 200.0}


@pytest.mark.parametrize(("schedule", "prediction"), [
    ("cosine", "v"), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in (("rectified_flow", "velocity"), ("linear", "x0")))])
def test_it_learns_one_picture_with_its_mask(schedule, prediction):
    model, _ = fit(400, OneSquare(steps=400), schedule=schedule, prediction=prediction, **LONG)
    drawn = model.eval().sample(Condition(), range(4))
    square = torch.full((16, 16), -0.5)
    square[4:12, 4:12] = 0.5
    assert float((drawn.image - square).abs().mean()) < 0.15
    assert float((drawn.masks[:, 0] == (square > 0)).float().mean()) > 0.95


def test_it_learns_the_noise_of_one_picture():
    """From noise alone the smallest error of epsilon is divided by alpha: a fit of seconds is judged where there is a picture."""
    model, _ = fit(300, OneSquare(steps=300), schedule="linear", prediction="epsilon", **LONG)
    picture, c = model.eval().encode(OneSquare().batch(0))
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for t in (0.1, 0.2):
            alpha, sigma = (float(a) for a in model.noise_schedule(torch.tensor(t)))
            found = model._denoiser(c, None)(alpha * picture + sigma * noise, t)
            assert float((found - picture).abs().mean()) < 0.5 * sigma / alpha * float(noise.abs().mean())


def test_it_is_a_generator_and_seeds_alone_decide():
    model, _ = fit()
    assert isinstance(model, Generator)
    model.eval()
    condition = Condition(labels=np.array([[1.0, np.nan]] * 3))
    three = model.sample(condition, [5, 6, 7])
    assert three.image.shape == (3, 1, 16, 16) and three.masks.shape == (3, 1, 16, 16) and three.masks.dtype == torch.int64
    assert float(three.image.abs().max()) <= 1
    again = model.sample(Condition(labels=np.array([[1.0, np.nan]])), [6])
    assert torch.allclose(again.image[0], three.image[1], atol=1e-4)
    assert not torch.allclose(three.image[0], three.image[1], atol=1e-2)


def test_guidance_one_ignores_what_an_unconditional_net_says_and_two_does_not():
    model, _ = fit()
    model.eval()
    with torch.no_grad():
        for p in model.net_ema.net.class_embedding.parameters():
            p.add_(0.5 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
        for p in model.net_ema.net.out.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    told, untold = Condition(labels=np.array([[1.0, 0.0]])), Condition()
    one = model.sample(told, [3]).image
    model.draw_with(guidance=0.0)
    assert torch.allclose(model.sample(told, [3]).image, model.sample(untold, [3]).image, atol=1e-5)
    model.draw_with(guidance=2.0)
    assert not torch.allclose(model.sample(told, [3]).image, one, atol=1e-4)
    model.draw_with(guidance_interval=(1.0, 1.0), steps=3, sampler="heun")
    one = model.sample(told, [3]).image
    model.draw_with(guidance=1.0)
    assert not torch.equal(model.sample(told, [3]).image, one)  # guided at pure noise, and nowhere else
    model.draw_with(guidance=2.0, guidance_interval=(0.0, 0.0))  # never: the walk ends at 0
    never = model.sample(told, [3]).image
    model.draw_with(guidance=1.0)
    assert torch.equal(model.sample(told, [3]).image, never)


def test_a_net_of_doubles_draws():
    model, _ = fit(1, precision="64-true")
    assert torch.isfinite(model.eval().sample(Condition(), [0]).image).all()


def test_half_precision_wants_attention_that_cannot_overflow():
    model = Diffusion(**TINY, flash=False)
    model._trainer = SimpleNamespace(precision="16-mixed")  # Lightning makes bf16 of it on a CPU
    with pytest.raises(InputError, match="model.flash"):
        model.prepare_fit(8)
    model.hparams.flash = True
    model.prepare_fit(8)


def test_a_resumed_fit_reads_answers_as_they_were_meant():
    model, _ = fit(1)
    other = Diffusion(**TINY, prediction="x0")
    other.build(tiny_gan.Pictures().spec())
    with pytest.raises(InputError, match="(?s)model.prediction.*found x0.*v, with which"):
        other.restore(model.state())
    other = Diffusion(**TINY, schedule="linear")
    other.build(tiny_gan.Pictures().spec())
    with pytest.raises(InputError, match="model.schedule"):
        other.restore(model.state())


def test_parts_of_a_batch_add_up_to_the_batch():
    whole, parts = (fit(2, accumulate=n, precision="64-true")[0] for n in (1, 4))
    for (name, a), b in zip(whole.net.state_dict().items(), parts.net.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9), name


def test_the_rate_rises_and_the_average_follows():
    model, trainer = fit(3, warmup_images=48, lr=1e-3, ema_half_life_images=8.0, ema_rampup=1.0)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.5e-3)  # 24 of 48 images
    assert model.images_seen == 24 and trainer.global_step == 3
    torch.manual_seed(0)
    fresh = Diffusion(**{**TINY, "max_images": 24})
    fresh.build(tiny_gan.Pictures().spec())
    way = [(float((e - s).norm()), float((n - s).norm())) for e, n, s in zip(
        model.net_ema.parameters(), model.net.parameters(), fresh.net.parameters(), strict=True) if not torch.equal(n, s)]
    assert len(way) > 10 and sum(0 < e < n for e, n in way) > 0.9 * len(way)  # it has left its start, and is not yet there


@pytest.mark.parametrize(("options", "words"), [
    ({"prediction": "velocity"}, "velocity with schedule cosine"),
    ({"schedule": "rectified_flow"}, "v with schedule rectified_flow"),
    ({"prediction": "epsilon"}, "ends in noise alone"),
    ({"channels": (8, 12)}, "found 12; expected multiples of 8"),
    ({"channels": (8, 8, 8, 8, 8, 8), "attention": (False,) * 6}, "divisible by 32"),
    ({"attention": (True,)}, "expected 2, as model.channels has"),
    ({"channels": (), "attention": ()}, "model.channels: found no level"),
    ({"drop_rate": 1.5}, "drop_rate: found 1.5"),
    ({"prompt_drop_rate": 0.5}, "prompt_drop_rate: found 0.5, and no data.prompt"),
    ({"steps": 0}, "sampler steps: found 0"),
    ({"min_snr": 0.0}, "min_snr: found 0"),
    ({"res_blocks": 0}, "res_blocks: found 0"),
    ({"guidance": 2.0, "drop_rate": 0.0}, "trained with drop_rate 0"),
    ({"guidance_interval": (0.8, 0.2)}, "two times in order"),
    ({"accumulate": 3}, "a divisor of it"),
])
def test_what_cannot_work_is_refused_before_the_first_step(options, words):
    with pytest.raises(InputError, match=words):
        fit(**options)


def test_a_number_that_is_none_stops_the_fit():
    class Bad(tiny_gan.Pictures):
        def batch(self, k, rank=0):
            case = super().batch(k, rank)
            if k == 1:
                case.image[3] = float("nan")
            return case

    with pytest.raises(RunError, match="picture 3 of the batch after 8 images"):
        fit(3, Bad())


def test_truncation_is_refused():
    model, _ = fit(1)
    bare, _ = fit(1, tiny_gan.Pictures(info=replace(tiny_gan.INFO, classes=())))
    with pytest.raises(InputError, match="no labels and no attributes"):
        bare.draw_with(guidance=2.0)
    with pytest.raises(InputError, match="--guidance above 1"):
        model.eval().sample(Condition(), [0], truncation=0.7)


def command(real, run, images=24, **more):
    return fit_command(real, run, "Diffusion", 16, images, **more)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diffusion") / "real"
    make(folder)
    return folder


def test_a_resumed_fit_ends_as_an_uninterrupted_one_and_samples(real, tmp_path):
    assert main(command(real, tmp_path / "whole")) == 0
    assert main(command(real, tmp_path / "parts", 12)) == 0
    assert main([*command(real, tmp_path / "parts"), f"--ckpt_path={newest_valid(tmp_path / 'parts')}"]) == 0
    whole, parts = newest_valid(tmp_path / "whole"), newest_valid(tmp_path / "parts")
    assert same_weights(whole, parts)
    assert main(sample_command(whole, real, tmp_path / "set")) == 0
    made = Manifest.read(tmp_path / "set")
    assert made.info.lineage.settings["sampler"] == "dpm_multistep" and made.info.lineage.settings["steps"] == 3
    slow = [*sample_command(whole, real, tmp_path / "slow"), "--sampler=ddim", "--sampler-steps=5", "--guidance=1.5", "--guidance-interval", "0.2", "0.8"]
    assert main(slow) == 0
    settings = Manifest.read(tmp_path / "slow").info.lineage.settings
    assert (settings["sampler"], settings["steps"], settings["guidance"], settings["guidance_interval"]) == ("ddim", 5, 1.5, [0.2, 0.8])
    assert main([*sample_command(whole, real, tmp_path / "odd"), "--guidance-interval", "0.8", "0.2"]) == 2
    assert len(made) == 10 and {f.kind for f in made.info.lineage.fitted} == {"generator"}
    assert json.loads(json.dumps(made.info.lineage.settings))["dtype"] == "float32"


def test_drawn_from_masks_by_the_command_line(real, tmp_path):
    assert main(command(real, tmp_path / "run", masks="given")) == 0
    assert main(sample_command(newest_valid(tmp_path / "run"), real, tmp_path / "set")) == 0
    made, train = Manifest.read(tmp_path / "set"), Manifest.read(real).where(split="train")
    assert set(made.column("origin:mask")) <= set(train.column("mask_digest")) - {""}
    assert {f.kind for f in made.info.lineage.fitted} == {"generator", "masks"}
