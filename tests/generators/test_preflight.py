from dataclasses import replace

import numpy as np
import pytest
import torch
from checking_cli import CheckingCLI
from tiny_gan import INFO, TINY, Pictures, fit, trainer

from synthrad import cli
from synthrad.conditioning import Condition
from synthrad.errors import InputError
from synthrad.generators import preflight
from synthrad.generators.gan import StyleGAN2


class Rows:
    """As much of a Manifest as is looked at."""

    def __init__(self, labels):
        self.labels, self.info = np.array(labels, dtype=float), INFO

    def __len__(self):
        return len(self.labels)


def with_rows(labels, **kwargs):
    data = Pictures(**kwargs)
    data.train = Rows(labels)
    return data


@pytest.mark.parametrize(("options", "words"), [
    ({"accumulate": 0}, "model.accumulate.*0"), ({"freeze_d": -1}, "model.freeze_d"), ({"freeze_d": 1}, "freeze_d.*init_from"),
    ({"r1_gamma": -1.0}, "model.r1_gamma"), ({"label_dropout": 2.0}, "label_dropout.*0 to 1"), ({"ada_fixed": float("nan")}, "ada_fixed"),
    ({"augment": {"flop": 1}}, "augment.flop.*unknown.*\n.*flip"), ({"augment": {"flip": -1}}, "augment.flip.*-1"),
    ({"augment": {"hue": 1}}, "hue and saturation need 3"), ({"accumulate": 3}, "3 parts of data.batch_size=8"),
    ({"mask_scale": 0.0}, "model.mask_scale: found 0"),
    ({"channel_base": 8}, "model.channel_base: found 8; expected at least 16"), ({"channel_max": 0}, "channel_max"), ({"w_dim": 0}, "w_dim"),
    ({"z_dim": 0}, "z_dim"), ({"z_dim": -3}, "z_dim"), ({"mapping_depth": 0}, "mapping_depth"), ({"r1_gamma": float("inf")}, "r1_gamma.*finite"),
    ({"augment": {"filter": 1}}, "augment.filter: found 1 for pictures of 16 pixels"),
    ({"condition_ramp": (8, 8)}, "model.condition_ramp.*8, 8"), ({"condition_ramp": (0, 10**6)}, "condition_ramp.*never count in full"),
])
def test_options_that_cannot_be_meant_are_told_before_the_first_step(options, words, monkeypatch):
    monkeypatch.setattr(StyleGAN2, "training_step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(InputError, match=words):
        fit(**options)


def test_weights_of_16_bits_are_refused():
    for precision in ("bf16-true", "16-true"):
        with pytest.raises(InputError, match=f"trainer.precision: found {precision}.*bf16-mixed"):
            preflight.check_precision(trainer(precision=precision).precision)
    with pytest.raises(InputError, match="trainer.precision"):
        fit(precision="bf16-true")
    for precision in ("32-true", "64-true", "bf16-mixed"):
        preflight.check_precision(trainer(precision=precision).precision)


def test_a_machine_that_cannot_compile_says_so_before_the_first_step(monkeypatch):
    def broken(*_):
        raise RuntimeError("No working C++ compiler found\nin a long list of places")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(StyleGAN2, "training_step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(InputError, match="model.compile: found true, .*No working C[+][+] compiler.*\n.*set model.compile to false"):
        fit(compile=True)


def test_a_dataset_smaller_than_a_batch(monkeypatch):
    monkeypatch.setattr(StyleGAN2, "training_step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(InputError, match="8 on 1 process.*7 training images.*at most 7"):
        fit(with_rows([[1, 1]] * 7))
    preflight.check_data(Rows([[1, 1]] * 16), 8, 2, 4)
    with pytest.raises(InputError, match="8 on 3 process.*at most 5"):
        preflight.check_data(Rows([[1, 1]] * 16), 8, 3, 1)


def test_a_class_without_a_picture_is_told_by_name_and_refused_later():
    with pytest.warns(UserWarning, match="known to have 'b'"):
        model, _ = fit(with_rows([[1, 0], [0, 0], [1, np.nan]] * 3), steps=1)
    assert model.spec["absent"] == ["b"]
    ask = lambda *labels: model.eval().sample(Condition(labels=np.array([labels], dtype=float)), [1])  # noqa: E731
    assert ask(1, 0).image.shape == ask(0, np.nan).image.shape == (1, 1, 16, 16)
    with pytest.raises(InputError, match="label 'b'"):
        ask(0, 1)
    model, _ = fit(with_rows([[1, 0], [0, 1]] * 4), steps=1)
    assert model.spec["absent"] == []


def test_settings_are_derived_printed_and_used(capsys):
    model, _ = fit(steps=1, r1_gamma="auto", ema_half_life_images="auto", lr="auto")
    assert "8 images a step; lr 0.0025 (auto), R1 weight 0.0064 (auto), EMA half life 2,500 images (auto)" in capsys.readouterr().out
    c = TINY["path_every"] / (TINY["path_every"] + 1)
    assert model.optimizers()[0].param_groups[0]["lr"] == pytest.approx(0.0025 * c)
    model, _ = fit(steps=1)
    assert "lr 0.0025, R1 weight 1, EMA half life 10,000 images" in capsys.readouterr().out


@pytest.mark.parametrize("labels", [[[2.0, 0]], [[0.5, 0]], [[-1, 0]], [[float("inf"), 0]]])
def test_labels_that_are_no_labels(labels):
    torch.manual_seed(0)
    model = StyleGAN2(**TINY)
    model.build(Pictures().spec())
    with pytest.raises(InputError, match="condition: labels.*0, 1 or NaN"):
        model.sample(Condition(labels=np.array(labels)), [1])


def test_the_command_line_takes_auto_and_a_start(tmp_path):
    command = ["fit", "--model=StyleGAN2", "--model.r1_gamma=auto", "--model.lr=auto", "--model.ema_half_life_images=auto",
               "--model.accumulate=2", "--model.init_from=a.ckpt", "--model.freeze_d=3", "--data=GenerationDataModule",
               f"--data.manifest={tmp_path}", "--data.size=[16,16]"]
    own = cli.parse(command, CheckingCLI).config["fit"]["model"]["init_args"]
    assert own["r1_gamma"] == own["lr"] == own["ema_half_life_images"] == "auto"
    assert (own["accumulate"], own["init_from"], own["freeze_d"]) == (2, "a.ckpt", 3)
    with pytest.raises(InputError, match="r1_gamma"):
        cli.parse([*command, "--model.r1_gamma=much"], CheckingCLI)


def test_a_ramp_of_conditions_wants_conditions():
    with pytest.raises(InputError, match="model.condition_ramp: found .*no labels and no attributes"):
        fit(Pictures(info=replace(INFO, classes=())), condition_ramp=(8, 16), steps=2)


def test_a_fit_of_before_pseudonyms_goes_on_with_the_same_images():
    old, new = {"fingerprints": ["f"], "trained_on": ["0" * 32]}, {"fingerprints": ["f"], "trained_on": ["1" * 40]}
    preflight.check_same_training(old, new)
    for other in ({**new, "fingerprints": ["g"]}, {**old, "trained_on": ["2" * 32]}):
        with pytest.raises(InputError, match="that only one of checkpoint and data has"):
            preflight.check_same_training(old, other)
