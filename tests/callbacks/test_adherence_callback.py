import json
from dataclasses import replace

import lightning as L
import numpy as np
import pytest
import torch
from test_fidelity_callback import fit
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks.adherence import Adherence
from synthrad.conditioning import Images
from synthrad.datamodules.generation import GenerationDataModule
from synthrad.errors import InputError


class Answers(L.LightningModule):
    """Draws training images that show what was asked for, or, deaf, any of them; with their own masks or with others."""

    def __init__(self, data, deaf=False):
        super().__init__()
        data.prepare()
        self.data, self.deaf, self.weight, self.images_seen = data, deaf, torch.nn.Parameter(torch.ones(())), 0

    def training_step(self, batch, batch_idx):
        self.images_seen += len(batch.image)
        return self.weight.square()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def sample(self, condition, seeds):
        cases = [self.data.case(i) for i in range(len(self.data.train))]
        drawn, masks = [], []
        for wanted, seed in zip(condition.labels, seeds, strict=True):
            fits = [c for c in cases if c.labels[0] == wanted[0]]  # caries, and with it the sex: see tiny_set
            pick = np.random.default_rng(seed)
            chosen = pick.choice(len(cases)) if self.deaf else pick.choice(len(fits))
            drawn.append((cases if self.deaf else fits)[chosen])
            masks.append(cases[pick.choice(len(cases))].masks if self.deaf else drawn[-1].masks)
        return Images(torch.stack([c.image for c in drawn]), torch.stack(masks))


class Silent(Answers):
    """Draws nothing."""

    def sample(self, condition, seeds):
        raise AssertionError("never reached")


class Other(L.LightningModule):
    """No generator."""

    def training_step(self, batch, batch_idx):
        raise AssertionError("never reached")

    def configure_optimizers(self):
        return None


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adherence") / "real"
    make(folder, rows=96)
    return folder


def data_of(real, **more):
    return GenerationDataModule(str(real), (32, 32), batch_size=4, **more)


def run(folder, real, deaf=False, callback=None, **more):
    data = data_of(real, **more)
    callback = callback or Adherence(every_images=16, number=60, steps=40, lr=3e-3)
    fit(folder, Answers(data, deaf), data, [callback], limit_train_batches=8)
    return [json.loads(x) for x in (folder / "adherence.jsonl").read_text().splitlines()], callback


@pytest.fixture(scope="module")
def obedient(real, tmp_path_factory):
    folder = tmp_path_factory.mktemp("obedient")
    return folder, *run(folder, real)


def test_who_listens_scores_as_real_images_do(obedient):
    folder, lines, callback = obedient
    assert [x["images"] for x in lines] == [16, 32] and callback.asked_names == ["caries", "implant", "sex=f", "sex=m"]
    line = lines[-1]
    caries = line["findings"]["caries"]
    assert caries["auroc"] > 0.85 and caries["real_auroc"] > 0.5
    assert caries["low"] <= caries["auroc"] <= caries["high"] and caries["asked"] + caries["asked_absent"] == 60
    assert line["dice"] > 0.8 and line["real_dice"] > 0.8
    assert line["dice_other"] < 0.5 and line["real_dice_other"] < line["real_dice"]
    assert (folder / "adherence.png").is_file()


def test_who_does_not_listen_scores_as_chance_does(real, tmp_path):
    lines, _ = run(tmp_path, real, deaf=True)
    caries = lines[-1]["findings"]["caries"]
    assert caries["low"] < 0.5 < caries["high"]
    assert lines[-1]["dice"] == pytest.approx(lines[-1]["dice_other"], abs=0.1) and lines[-1]["real_dice"] > 0.8


def test_mean_over_what_both_sides_have(real, tmp_path, monkeypatch):
    def no_implants(self, number):
        cases = [self.case(i) for i in range(24)]
        return [replace(c, labels=torch.stack([c.labels[0], torch.tensor(float("nan"))])) for c in cases], None

    monkeypatch.setattr(GenerationDataModule, "held_out_cases", no_implants)
    lines, _ = run(tmp_path, real)
    findings = lines[-1]["findings"]
    told = {k: r for k, r in findings.items() if r["auroc"] is not None and r["real_auroc"] is not None}
    assert set(told) == {"caries", "sex=f", "sex=m"} and findings["implant"]["auroc"] is not None
    assert lines[-1]["auroc"] == pytest.approx(np.mean([r["auroc"] for r in told.values()]))
    assert lines[-1]["real_auroc"] == pytest.approx(np.mean([r["real_auroc"] for r in told.values()]))


def test_a_resumed_fit_reads_its_nets_and_another_dataset_does_not(obedient, real, tmp_path):
    folder, lines, _ = obedient
    before, written = (folder / "auxiliary.pt").read_bytes(), (folder / "auxiliary.pt").stat().st_mtime_ns
    again, _ = run(folder, real)
    assert (folder / "auxiliary.pt").stat().st_mtime_ns == written
    strip = lambda rows: [{k: v for k, v in r.items() if k != "check_seconds"} for r in rows]  # noqa: E731
    assert strip(again) == strip(lines)
    (tmp_path / "auxiliary.pt").write_bytes(before)
    make(tmp_path / "other", rows=48, seed=5)
    run(tmp_path, tmp_path / "other")
    assert (tmp_path / "auxiliary.pt").read_bytes() != before


def test_another_fit_on_the_same_data_takes_the_nets_of_the_first(real, obedient, tmp_path, monkeypatch):
    kept = sorted((real / ".cache").glob("auxiliary-*.pt"))
    assert (obedient[0] / "auxiliary.pt").read_bytes() in [p.read_bytes() for p in kept]
    monkeypatch.setattr(Adherence, "_fit", lambda *_: pytest.fail("fitted again"))
    run(tmp_path, real)
    assert (tmp_path / "auxiliary.pt").read_bytes() == (obedient[0] / "auxiliary.pt").read_bytes()


def test_what_is_not_taught_is_not_asked_for(real, obedient, tmp_path):
    (tmp_path / "auxiliary.pt").write_bytes((obedient[0] / "auxiliary.pt").read_bytes())
    lines, callback = run(tmp_path, real, classes=["caries"], attributes=[])
    assert callback.asked_names == ["caries"] and set(lines[-1]["findings"]) == {"caries"}
    assert (tmp_path / "auxiliary.pt").read_bytes() != (obedient[0] / "auxiliary.pt").read_bytes()
    nothing = GenerationDataModule(str(real), (32, 32), batch_size=4, classes=[], attributes=[], layers=[])
    with pytest.warns(UserWarning, match="neither labels, attributes nor masks"):
        fit(tmp_path / "nothing", Silent(nothing), nothing, [Adherence(number=20)], limit_train_batches=1)


def test_what_cannot_be_judged_is_told(real, tmp_path):
    with pytest.warns(UserWarning, match="masks of .16, 16. pixels are not judged"):
        small = GenerationDataModule(str(real), (16, 16), batch_size=4)
        fit(tmp_path, Answers(small), small, [Adherence(number=20, steps=2)], limit_train_batches=2)
    assert json.loads((tmp_path / "adherence.jsonl").read_text())["dice"] is None
    with pytest.raises(InputError, match="without .*sample"):
        fit(tmp_path, Other(), data_of(real), [Adherence()])
    with pytest.raises(InputError, match="number at least 10"):
        Adherence(number=5)


@pytest.mark.filterwarnings("ignore:Fidelity")
def test_by_the_command_line_beside_fidelity_nothing_that_is_trained_changes(tmp_path):
    from tiny_generator import same_weights

    from synthrad.callbacks import newest_valid

    make(tmp_path / "real", rows=96)
    fidelity = ["--trainer.callbacks+=synthrad.callbacks.fidelity.Fidelity", "--trainer.callbacks.every_images=12",
                "--trainer.callbacks.number=20"]
    asked = ["--trainer.callbacks+=synthrad.callbacks.adherence.Adherence", "--trainer.callbacks.every_images=12",
             "--trainer.callbacks.number=20", "--trainer.callbacks.steps=2"]
    size = "--data.size=[32,32]"
    assert main([*fit_command(tmp_path / "real", tmp_path / "with"), size, *fidelity, *asked]) == 0
    assert main([*fit_command(tmp_path / "real", tmp_path / "without"), size]) == 0
    assert same_weights(newest_valid(tmp_path / "with"), newest_valid(tmp_path / "without"))
    lines = [json.loads(x) for x in (tmp_path / "with" / "adherence.jsonl").read_text().splitlines()]
    assert [x["images"] for x in lines] == [12, 24] and 0 <= lines[-1]["dice"] <= 1
