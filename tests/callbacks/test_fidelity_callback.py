import json
import warnings
from datetime import timedelta
from types import SimpleNamespace

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from forks import forks
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from synthrad.callbacks.fidelity import Fidelity, RealSide
from synthrad.conditioning import Condition, Images
from synthrad.errors import InputError, RunError
from synthrad.metrics.features import Standardizer
from synthrad.metrics.fidelity import Projection, frechet_distance, kernel_distance, variety


def picture(seed, shift=0.0):
    """A smooth 16 x 16 picture that is a function of its seed."""
    coarse = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 1, 4, 4))).float()
    return (torch.nn.functional.interpolate(coarse, 16, mode="bicubic")[0] + shift).tanh()


class Table:
    """Stands for a manifest: subjects of rows."""

    def __init__(self, subjects):
        self.subjects = np.array(subjects, dtype=object)

    def __len__(self):
        return len(self.subjects)

    def column(self, name):
        assert name == "subject"
        return self.subjects


class Pictures(L.LightningDataModule):
    """Training pictures of seeds 1000 ..., validation pictures of seeds 5000 ...; 4 empty batch items a step."""

    def __init__(self, rows=80, held=40, steps=6):
        super().__init__()
        self.train, self.held, self.steps, self.asked = Table([f"t{i}" for i in range(rows)]), held, steps, []

    def held_out(self, number):
        n = min(number, self.held)
        images = torch.stack([picture(5000 + i) for i in range(n)]) if n else torch.zeros(0, 1, 16, 16)
        return images, np.array([f"v{i}" for i in range(n)], dtype=object)

    def case(self, row):
        return SimpleNamespace(image=picture(1000 + row))

    def conditions(self, rows):
        self.asked.append(list(rows))
        return Condition(labels=np.zeros((len(rows), 1)))

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(4 * self.steps, 1), batch_size=4)


class Painter(L.LightningModule):
    """Draws pictures that get darker or lighter with its weight, of `modes` different ones; trains on noise."""

    def __init__(self, modes=10**6, spoiled=False, wobble=0.0):
        super().__init__()
        self.weight, self.modes, self.spoiled, self.wobble = torch.nn.Parameter(torch.tensor(0.5)), modes, spoiled, wobble
        self.images_seen, self.drawn = 0, []

    def training_step(self, batch, batch_idx):
        self.images_seen += len(batch) * self.trainer.world_size
        return (self.weight - 0.1 * torch.randn(())).square()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def sample(self, condition, seeds):
        assert len(condition.labels) == len(seeds)
        self.drawn += list(seeds)
        torch.rand(3)  # what a sampler must not leave behind
        shifts = [float(self.weight) + self.wobble * np.random.default_rng(s).normal() for s in seeds]
        images = torch.stack([picture(100_000 + s % self.modes, shift) for s, shift in zip(seeds, shifts, strict=True)])
        return Images(torch.full_like(images, float("nan")) if self.spoiled else images)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["seen"] = self.images_seen

    def on_load_checkpoint(self, checkpoint):
        self.images_seen = checkpoint["seen"]


def fit(folder, model=None, data=None, callbacks=(), epochs=1, resume=None, logger=False, **trainer):
    torch.manual_seed(3)
    model, data = model or Painter(), data or Pictures()
    made = L.Trainer(accelerator="cpu", max_epochs=epochs, default_root_dir=folder, logger=logger, enable_progress_bar=False,
                     enable_model_summary=False, enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks), callbacks=list(callbacks), **trainer)
    made.fit(model, data, ckpt_path=resume, weights_only=True)
    return model, made


def lines(folder):
    return [json.loads(x) for x in (folder / "fidelity.jsonl").read_text().splitlines()]


def fidelity(**more):
    return Fidelity(**{"every_images": 8, "number": 40, "collapse_after": 0, "block": 16, "draws": 20, **more})


@pytest.mark.slow
def test_twenty_healthy_fits_raise_no_alarm(tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Fidelity")
        for seed in range(20):
            torch.manual_seed(seed)
            fit(tmp_path / str(seed), Painter(wobble=0.05), Pictures(), [fidelity(seed=100 * seed, number=60)])
            assert len(lines(tmp_path / str(seed))) == 3 and not any(x["collapsed"] for x in lines(tmp_path / str(seed)))


def test_a_healthy_fit(tmp_path):
    model, data = Painter(), Pictures()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Fidelity")
        fit(tmp_path, model, data, [fidelity(seed=7)], logger=TensorBoardLogger(tmp_path, "", ""))
    found = lines(tmp_path)
    assert [x["images"] for x in found] == [8, 16, 24] and [x["step"] for x in found] == [2, 4, 6]
    assert model.drawn == [*range(7, 47)] * 3 and data.asked[:3] == data.asked[3:6] == data.asked[6:]
    assert sum(data.asked[:3], []) != list(range(40)) and len(set(sum(data.asked[:3], []))) == 40
    assert found[0]["kid"] > found[2]["kid"] and found[0]["null_kid"] == found[2]["null_kid"]  # the weight goes towards 0
    for x in found:
        assert x["reference"] == "validation" and x["reference_subjects"] == x["generated"] == x["null_images"] == 40
        assert x["kid_low"] < x["kid"] < x["kid_high"] and x["null_kid_low"] < 0 < x["null_kid_high"]
        assert not x["collapsed"] and 0.75 < x["variety"] < 1.3 and 0.75 < x["structure_variety"] < 1.3 and x["variety_images"] == 40
        assert x["frechet_images"] == 40 and x["frechet_columns"] == 4 and x["frechet"] > 0 and x["columns"] == 140
        assert len(x["kid_draws"]) == 20 and np.std(x["kid_draws"]) < 3 * x["kid_se"]
        assert 0 < x["s_per_kimg"] < 1e6 and x["check_seconds"] > 0 and x["features"] == "RadiomicsFeatures"
    assert found[0]["seconds"] < found[1]["seconds"] < found[2]["seconds"]
    assert (tmp_path / "fidelity.png").read_bytes().startswith(b"\x89PNG")
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("fidelity/kid")] == [(x["images"], x["kid"]) for x in found]


def test_what_is_trained_does_not_change(tmp_path):
    one, _ = fit(tmp_path)
    other, _ = fit(tmp_path, callbacks=[fidelity()])
    assert torch.equal(one.weight, other.weight)


def test_numbers_are_those_of_the_functions():
    """Full columns where n >= 2 d; a projection fitted on neither side below."""
    rng = np.random.default_rng(0)
    held, null, fitted, samples = (rng.normal(size=(n, 20)) for n in (60, 50, 70, 90))
    side = RealSide(Standardizer.fit(fitted), held, np.arange(60) // 2, null, np.arange(50), fitted, np.arange(70),
                    np.concatenate([fitted, null]), "validation")
    found = side.compare(samples, samples, 5)
    kid = kernel_distance(samples, held, None, np.arange(60) // 2)
    assert found["kid"] == pytest.approx(kid.value, rel=1e-6) and found["kid_se"] == pytest.approx(kid.error, rel=1e-6)
    assert found["reference_subjects"] == 30 and found["null_kid"] == pytest.approx(
        kernel_distance(null, held, None, np.arange(60) // 2).value, rel=1e-6)
    assert found["frechet_columns"] == 20 and found["frechet_images"] == 50
    assert found["frechet"] == pytest.approx(frechet_distance(samples[:50], held[:50]), rel=1e-6)
    assert found["null_frechet"] == pytest.approx(frechet_distance(null, held[:50]), rel=1e-6)
    assert found["variety"] == pytest.approx(variety(samples, np.concatenate([null, fitted])).ratio, rel=1e-6)
    assert found["structure_variety"] == pytest.approx(variety(samples, np.concatenate([fitted, null])).ratio, rel=1e-6)
    few = side.compare(samples[:30], samples[:30], 5)
    down = Projection.fit(fitted, 3)
    assert few["frechet_columns"] == 3
    assert few["frechet"] == pytest.approx(frechet_distance(down(samples[:30]), down(held[:30])), rel=1e-6)
    assert side.compare(samples[:9], samples[:9], 5)["frechet"] is None


@pytest.mark.parametrize(("modes", "wobble"), [(1, 0.0), (16, 0.0), (64, 0.0), (64, 0.02)])
def test_collapse_warns(tmp_path, modes, wobble):
    """A few hundred samples of few pictures, the same or a little brighter and darker."""
    with pytest.warns(UserWarning, match="collapse after 24 images"):
        fit(tmp_path, Painter(modes, wobble=wobble), Pictures(rows=200, held=30), [fidelity(every_images=24, number=200)])
    (found,) = lines(tmp_path)
    assert found["collapsed"] and found["variety"] < 0.4 and found["structure_variety"] < 0.4 and found["variety_images"] == 200


def test_a_repeated_anatomy_warns_where_texture_and_grey_levels_vary(tmp_path):
    with pytest.warns(UserWarning, match="collapse after 24 images: .*that of their structure is 0.[0-5]"):
        fit(tmp_path, Painter(1, wobble=1.0), Pictures(rows=200, held=30), [fidelity(every_images=24, number=200)])
    (found,) = lines(tmp_path)
    assert found["collapsed"] and found["structure_variety"] < 0.5


def test_a_resumed_fit_repeats_no_check_and_keeps_the_lines(tmp_path):
    first, trainer = fit(tmp_path / "one", callbacks=[fidelity()])
    trainer.save_checkpoint(tmp_path / "state.ckpt")
    again = Painter()
    fit(tmp_path / "two", again, Pictures(), [fidelity()], epochs=2, resume=tmp_path / "state.ckpt")
    before, after = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert [x["images"] for x in after] == [8, 16, 24, 32, 40, 48] and after[:3] == before
    assert len(again.drawn) == 3 * 40 and after[3]["seconds"] > before[2]["seconds"]


def test_marks_and_end_do_not_coincide(tmp_path):
    fit(tmp_path, callbacks=[fidelity(every_images=10)])
    assert [x["images"] for x in lines(tmp_path)] == [12, 20, 24]


def test_without_validation_images_training_ones_are_compared_and_named(tmp_path):
    with pytest.warns(UserWarning, match="compared with TRAINING images") as said:
        fit(tmp_path, Painter(), Pictures(held=2), [fidelity()])
    assert sum("TRAINING" in str(w.message) for w in said) == 1
    found = lines(tmp_path)[-1]
    assert found["reference"] == "training" and found["reference_subjects"] == 26
    assert found["null_kid_low"] < 0 < found["null_kid_high"]


def test_few_validation_subjects_are_told(tmp_path):
    with pytest.warns(UserWarning, match="only 10 validation subjects"):
        fit(tmp_path, Painter(), Pictures(held=10), [fidelity()])
    assert lines(tmp_path)[0]["reference_images"] == 10


def test_too_few_training_subjects_compute_nothing(tmp_path):
    model = Painter()
    with pytest.warns(UserWarning, match="5 training subjects are too few"):
        fit(tmp_path, model, Pictures(rows=5), [fidelity()])
    assert not model.drawn and not (tmp_path / "fidelity.jsonl").exists()


def test_subjects_of_one_side_are_never_on_the_other():
    data = Pictures(rows=90)
    data.train = Table([f"s{i // 3}" for i in range(90)])
    callback = fidelity()
    side = callback._read_real(data, torch.device("cpu"))
    assert not set(side.null_subjects) & set(side.fitted_subjects)
    assert len(set(side.null_subjects)) == len(set(side.fitted_subjects)) == 15
    data.held = 0
    with pytest.warns(UserWarning, match="TRAINING"):
        side = callback._read_real(data, torch.device("cpu"))
    parts = [set(side.null_subjects), set(side.fitted_subjects), set(side.held_subjects)]
    assert [len(p) for p in parts] == [10, 10, 10] and len(set.union(*parts)) == 30


def test_samples_that_are_not_finite_stop_the_fit(tmp_path):
    with pytest.raises(RunError, match="after 8 images hold NaN"):
        fit(tmp_path, Painter(spoiled=True), callbacks=[fidelity()])


def test_other_models_and_bad_settings_are_refused():
    other = SimpleNamespace(datamodule=Pictures())
    with pytest.raises(InputError, match="model: found LightningModule without"):
        Fidelity().setup(other, L.LightningModule(), "fit")
    with pytest.raises(InputError, match="data: found NoneType"):
        Fidelity().setup(SimpleNamespace(datamodule=None), Painter(), "fit")
    with pytest.raises(InputError, match="number 5"):
        Fidelity(number=5)


class Brightness(torch.nn.Module):
    """Two columns."""

    def forward(self, images):
        return torch.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], 1)


def test_other_features(tmp_path):
    fit(tmp_path, callbacks=[fidelity(features=Brightness())])
    found = lines(tmp_path)[0]
    assert found["features"] == "Brightness" and found["columns"] == found["frechet_columns"] == 2


def test_no_warning_before_the_generator_can_have_learned_anything(tmp_path):
    with pytest.warns(UserWarning, match="collapse after 24 images") as said:
        fit(tmp_path, Painter(2), callbacks=[fidelity(collapse_after=20)])
    assert sum("collapse" in str(w.message) for w in said) == 1
    assert [x["collapsed"] for x in lines(tmp_path)] == [False, False, True]


@forks
def test_one_of_two_processes_computes_and_none_waits(tmp_path):
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=60))
    fit(tmp_path, callbacks=[fidelity(), Noted(tmp_path)], devices=2, strategy=strategy)
    assert [x["images"] for x in lines(tmp_path)] == [8, 16, 24]
    drawn = [json.loads((tmp_path / f"rank{r}.json").read_text()) for r in range(2)]
    assert drawn == [{"drawn": 120, "next": 32}, {"drawn": 0, "next": 32}]


class Noted(L.Callback):
    """Leaves what each process did."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        marks = next(c for c in trainer.callbacks if isinstance(c, Fidelity)).state_dict()["next"]
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps({"drawn": len(pl_module.drawn), "next": marks}))


def test_by_the_command_line_with_a_real_generator(tmp_path):
    from tiny_generator import fit_command
    from tiny_set import make

    from synthrad.__main__ import main

    make(tmp_path / "real", rows=96)
    asked = ["--trainer.callbacks+=synthrad.callbacks.fidelity.Fidelity", "--trainer.callbacks.every_images=12",
             "--trainer.callbacks.number=20"]
    with pytest.warns(UserWarning, match="only 8 validation subjects") as said:
        assert main([*fit_command(tmp_path / "real", tmp_path / "run"), *asked]) == 0
    assert not [w for w in said if "collapse" in str(w.message)]  # untrained is not collapsed
    found = lines(tmp_path / "run")
    assert [x["images"] for x in found] == [12, 24] and pd.DataFrame(found)["kid"].notna().all()
    assert (tmp_path / "run" / "fidelity.png").is_file()
