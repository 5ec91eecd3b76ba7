"""Prompts: a diffusion model that reads them."""

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_bert import make_bert
from tiny_generator import fit_command, sample_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.conditioning import Condition
from synthrad.datamodules.generation import GenerationDataModule
from synthrad.errors import InputError
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.loading import load_generator
from synthrad.records import Manifest

PROMPT = ["--data.prompt={findings}, {sex}", "--data.prompt_words={f: female, m: male}", "--data.min_subjects=2"]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    make(tmp_path_factory.mktemp("text") / "real", rows=48)
    return tmp_path_factory.getbasetemp() / "text0" / "real"


@pytest.fixture(scope="module")
def trained(real, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    assert main([*fit_command(real, run, "Diffusion", 16, text="words", text_width=16, vector="false"), *PROMPT]) == 0
    return newest_valid(run)


def test_rows_are_written_as_they_are_known(real):
    data = GenerationDataModule(str(real), (16, 16), 4, min_subjects=2, prompt="{findings}, {sex}", prompt_words={"f": "female", "m": "male"})
    spec = data.spec()
    assert {"caries", "implant", "female", "male"} <= set(spec["vocabulary"]) and spec["prompt"]["words"]["f"] == "female"
    row = next(i for i in range(len(data.train)) if data.train.labels[i][0] == 1 and data.train.column("attribute:sex")[i] == "f")
    assert data.prompts([row])[0].startswith("caries") and data.prompts([row])[0].endswith(", female")
    assert data.conditions([row]).text == data.prompts([row])
    nothing = data.prompts([row], torch.full((1, 2), torch.nan), torch.zeros(1, 2))
    assert nothing == [""]
    assert "prompt" not in GenerationDataModule(str(real), (16, 16), 4).spec()


def test_prompts_decide_what_is_drawn_and_nothing_else_is_told(trained):
    model = load_generator(trained)[0]
    assert model.net_ema.c_dim == 0 and model.net_ema.words is not None
    model.net_ema.net.out[2].conv.weight.data.normal_(0, 0.1)  # a few steps from an answer of zeros
    image = lambda **c: model.sample(Condition(**c), [3]).image  # noqa: E731
    one = image(text=["caries, male"])
    assert torch.equal(one, image(text=["caries, male"])) and not torch.equal(one, image(text=["implant, female"]))
    assert torch.equal(one, image(text=["caries, male"], labels=np.array([[0, 1]])))  # vector: false
    written = image(labels=np.array([[1, 0]]), attributes=[{"sex": "m"}])
    assert torch.equal(one, written)
    model.draw_with(guidance=2.0)
    assert not torch.equal(one, image(text=["caries, male"]))


def test_what_is_dropped_is_an_empty_prompt_and_what_is_forgotten_is_not_named(real, monkeypatch):
    """The prompt of an image names what its vector still knows, and nothing else."""
    import tiny_gan

    seen = []
    tokens, encode = Diffusion._tokens, Diffusion.encode
    monkeypatch.setattr(Diffusion, "_tokens", lambda self, net, prompts: seen[-1].append(list(prompts)) or tokens(self, net, prompts))
    monkeypatch.setattr(Diffusion, "encode", lambda self, batch: (seen.append([]), encode(self, batch), seen[-1].append(self.remembered))[1])
    options = {"channels": (8, 16), "attention": (False, True), "res_blocks": 1, "head_channels": 8, "text": "words", "text_width": 16}
    for drop, alone, forgets in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)):
        data = GenerationDataModule(str(real), (16, 16), 8, min_subjects=2, prompt="{findings}, {sex}")
        seen.clear()
        tiny_gan.trainer().fit(Diffusion(**options, max_images=64, drop_rate=drop, prompt_drop_rate=alone, label_dropout=forgets), data)
        assert len(seen) == 8
        for known, prompts in seen:
            for row, prompt in zip(known.tolist(), prompts, strict=True):
                words = [c for c, v in zip(("caries", "implant"), row[:2], strict=True) if v]
                words = ["no finding"] if row[:4] == [0, 0, 1, 1] else words
                assert prompt == ("" if drop or alone else ", ".join([*words, *(v for v, hot in zip("fm", row[4:], strict=True) if hot)]))
    assert any(not all(row[2:4]) for known, _ in seen for row in known.tolist())


def test_samples_of_prompts_by_the_command_line(real, trained, tmp_path):
    pd.DataFrame({"text": ["caries, female", ""], "sex": ["", "m"], "caries": ["", "1"]}).to_csv(tmp_path / "asks.csv", index=False)
    ask = [a for a in sample_command(trained, real, tmp_path / "set") if a not in ("--number", "10")]
    assert main([*ask, "--conditions", str(tmp_path / "asks.csv")]) == 0
    made = Manifest.read(tmp_path / "set")
    known = [hashlib.sha256(p.encode()).hexdigest()[:16] for p in ("caries, female", "caries, male")]
    assert list(made.column("origin:prompt")) == known  # what a report says is not repeated
    assert np.isnan(made.labels[0]).all() and made.labels[1][0] == 1  # a prompt is no label
    assert main(sample_command(trained, real, tmp_path / "real_conditions")) == 0
    assert all(Manifest.read(tmp_path / "real_conditions").column("origin:prompt"))


def test_a_frozen_encoder_stays_in_its_own_files(real, tmp_path):
    (tmp_path / "bert").mkdir()
    bert = make_bert(tmp_path / "bert")
    command = [*fit_command(real, tmp_path / "run", "Diffusion", 16, text=str(bert)), "--data.prompt={findings}", "--data.min_subjects=2",
               f"--data.cache={tmp_path / 'cache'}"]
    assert main(command) == 0
    found = newest_valid(tmp_path / "run")
    assert len(list((tmp_path / "cache").glob("prompts-*-cpu/*"))) >= 2  # what it read, beside the images
    state = torch.load(found, weights_only=True)
    assert not any("bert" in k or "reader" in k or "words" in k for k in state["state_dict"]) and len(state["synthrad"]["reader"]) == 64
    assert main(sample_command(found, real, tmp_path / "set")) == 0
    state["synthrad"]["reader"] = "0" * 64
    torch.save(state, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="model.text: found other weights"):
        load_generator(tmp_path / "other.ckpt")


@pytest.mark.parametrize(("options", "more", "words"), [
    ({"text": "words"}, [], "model.text: found 'words', and no data.prompt"),
    ({"vector": "false"}, PROMPT, "model.vector: found false without model.text"),
    ({"text": "no/such-encoder"}, PROMPT, "model.text: found no folder, and no hub id"),
    ({"text": "words"}, ["--data.prompt={age}"], "data.prompt: found {age}"),
    ({"text": "words", "text_length": 2}, ["--data.prompt=a {findings}", "--data.min_subjects=2"], "too long, the first in row"),
    ({"text": "words", "text_length": 0}, PROMPT, "model.text_length: found 0"),
    ({"text": "words", "text_width": 30}, PROMPT, "model.text_width: found 30"),
    ({}, PROMPT, "data.prompt: found prompts for a Diffusion that reads none"),
])
def test_bad_prompts_are_one_message(real, tmp_path, options, more, words, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main([*fit_command(real, tmp_path / "run", "Diffusion", 16, **options), *more]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


def test_words_that_it_never_saw_are_told(real, trained, tmp_path):
    pd.DataFrame({"text": ["cariees, female"]}).to_csv(tmp_path / "asks.csv", index=False)
    ask = [a for a in sample_command(trained, real, tmp_path / "set") if a not in ("--number", "10")]
    with pytest.warns(UserWarning, match="1 words that no training prompt had, such as 'cariees'"):
        assert main([*ask, "--conditions", str(tmp_path / "asks.csv")]) == 0
    pd.DataFrame({"text": ["caries", "a " * 33]}).to_csv(tmp_path / "long.csv", index=False)
    ask[ask.index("--out") + 1] = str(tmp_path / "other")
    assert main([*ask, "--conditions", str(tmp_path / "long.csv")]) == 2 and not (tmp_path / "other").exists()


def test_a_gan_reads_no_prompts(real, tmp_path, capsys):
    assert main([*fit_command(real, tmp_path / "run"), *PROMPT]) == 2
    assert "data.prompt: found prompts for a StyleGAN2 that reads none" in capsys.readouterr().err
