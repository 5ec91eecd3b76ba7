import json
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forks import forks
from lightning.pytorch.strategies import DDPStrategy
from test_fidelity_callback import Painter, Pictures, fidelity, fit, lines
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import DurableCheckpoint, DurableCheckpointIO, newest_valid
from synthrad.callbacks.durable_checkpoint import step_of
from synthrad.callbacks.selection import KeepBestKID, ranks, words
from synthrad.errors import InputError
from synthrad.generators.loading import load_generator
from synthrad.lineage import hash_subjects, project_key
from synthrad.records import Manifest


def line(images, kid, draws):
    return {"images": images, "step": images // 4, "kid": kid, "kid_low": 1.0, "kid_high": 3.0, "reference_subjects": 30,
            "kid_draws": draws}


def test_ranks_are_those_of_the_resamplings():
    found = ranks([line(100, 5.0, [5, 6, 4, 5]), line(200, 2.0, [2, 2, 3, 1]), line(300, 2.5, [1, 3, 2.5, 2]), line(400, None, [None])])
    assert (found["images"], found["kid"], found["checks"], found["validation_subjects"]) == (200, 2.0, 3, 30)
    assert (found["first"], found["last_first"]) == (0.5, 0.5)  # draws 1 and 3 of 4; where it is not first the last one is
    assert (found["rank_low"], found["rank_high"]) == (1, 2)
    assert found["level"] == [300]  # the check after 100 images is worse in every resampling
    assert "rank would be 1 to 2" in words(found) and "1 other check is not worse" in words(found)


def test_a_clear_winner_is_told_as_one():
    draws = np.random.default_rng(0).normal(size=(3, 200)) * 0.01
    found = ranks([line(i, float(m), (m + d).tolist()) for i, m, d in zip((1, 2, 3), (1.0, 0.1, 0.5), draws, strict=True)])
    assert (found["images"], found["first"], found["rank_high"], found["level"], found["last_first"]) == (2, 1.0, 1, [], 0.0)


class Painted(Painter):
    """Keeps what a generator says of its data in the checkpoint, and moves away from the real brightness from step to step."""

    def __init__(self, **more):
        super().__init__(**more)
        self.spec = {"size": [16, 16]}

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        with torch.no_grad():
            self.weight.copy_(torch.tensor({8: 1.0, 16: 0.0, 24: 2.0}.get(self.images_seen, 1.0)))
        return self.weight * 0

    def on_save_checkpoint(self, checkpoint):
        super().on_save_checkpoint(checkpoint)
        checkpoint["spec"] = self.spec


class Named(Pictures):
    def __init__(self, **more):
        super().__init__(**more)
        self.train.info = SimpleNamespace(id="pictures", channels=["grey"], classes=[], layers={})


def run(folder, **trainer):
    keeper = DurableCheckpoint(folder / "checkpoints", every_steps=1, keep=9)
    return fit(folder, Painted(), Named(), [fidelity(), KeepBestKID(), keeper], plugins=[DurableCheckpointIO()], **trainer)


def check_kept(folder, images):
    found = lines(folder)
    assert min(found, key=lambda x: x["kid"])["images"] == 16  # the pictures are as bright as the real ones there
    best = newest_valid(folder, "best")
    kept = torch.load(best, weights_only=True)
    assert kept["seen"] == images and float(kept["state_dict"]["weight"]) == 0.0
    seen = hash_subjects("pictures", [f"v{i}" for i in range(40)], project_key())
    assert kept["spec"]["selected_on"] == sorted(seen) and "40 validation subjects" in kept["spec"]["selected_by"]
    assert "selected_on" not in torch.load(newest_valid(folder), weights_only=True)["spec"]
    assert json.loads((folder / "selection.json").read_text())["images"] == images


def test_the_nearest_generator_is_kept_and_says_what_it_was_selected_on(tmp_path, capsys):
    run(tmp_path)
    check_kept(tmp_path, 16)
    said = capsys.readouterr().out
    assert "lowest of 3 checks on 40 validation subjects" in said and str(newest_valid(tmp_path, "best")) in said


@forks
def test_two_processes_keep_the_same_one(tmp_path):
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=60))
    _, trainer = run(tmp_path, devices=2, strategy=strategy)
    check_kept(tmp_path, 16)
    assert trainer.checkpoint_callback.best_model_path == str(newest_valid(tmp_path, "best"))  # told by the processes


def test_a_resumed_fit_selects_among_its_own_checks_of_one_kind(tmp_path):
    def again(folder, *callbacks, epochs=2):
        keeper = DurableCheckpoint(folder / "checkpoints", every_steps=1, keep=9)
        return fit(folder, Painted(), Named(), [*callbacks, keeper], epochs, newest_valid(folder), plugins=[DurableCheckpointIO()])

    again(tmp_path / "a", fidelity(), KeepBestKID(), epochs=1)
    best = newest_valid(tmp_path / "a", "best").name
    again(tmp_path / "a", fidelity(), KeepBestKID())  # a further epoch, always with weight 1: none is nearer
    assert newest_valid(tmp_path / "a", "best").name == best
    assert json.loads((tmp_path / "a" / "selection.json").read_text())["checks"] == 6
    again(tmp_path / "b", fidelity(), epochs=1)
    with pytest.raises(InputError, match="checked without it before"):
        again(tmp_path / "b", fidelity(), KeepBestKID())
    with pytest.raises(InputError, match="another seed, number or draws"):
        again(tmp_path / "a", fidelity(draws=30), KeepBestKID(), epochs=3)
    with pytest.raises(InputError, match="draws: found 0"):
        fidelity(draws=0)
    assert ranks([line(400, None, [None])]) is None


def test_what_cannot_be_selected_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(InputError, match="too few validation subjects"), pytest.warns(UserWarning, match="TRAINING images"):
        fit(tmp_path, Painted(), Named(held=2), [fidelity(), KeepBestKID(), DurableCheckpoint(tmp_path)])
    with pytest.raises(InputError, match="without a Fidelity before it"):
        fit(tmp_path, Painted(), Named(), [KeepBestKID(), fidelity(), DurableCheckpoint(tmp_path)])
    with pytest.raises(InputError, match="without a DurableCheckpoint of its own"):
        fit(tmp_path, Painted(), Named(), [fidelity(), KeepBestKID(), DurableCheckpoint(tmp_path, monitor="score")])
    with pytest.raises(InputError, match="and no checkpoints"):
        fit(tmp_path, Painted(), Named(), [fidelity(), KeepBestKID()])


@pytest.mark.filterwarnings("ignore:Fidelity")
def test_by_the_command_line_with_a_real_generator(tmp_path):
    real = make(tmp_path / "real", rows=96)
    asked = ["--trainer.callbacks+=synthrad.callbacks.fidelity.Fidelity", "--trainer.callbacks.every_images=8",
             "--trainer.callbacks.number=20", "--trainer.callbacks+=synthrad.callbacks.selection.KeepBestKID"]
    assert main([*fit_command(tmp_path / "real", tmp_path / "run"), *asked]) == 0
    best, last = newest_valid(tmp_path / "run", "best"), newest_valid(tmp_path / "run")
    found = json.loads((tmp_path / "run" / "selection.json").read_text())
    # both optimizers' steps count in a checkpoint's name, and the lazy ones too, as in fidelity.jsonl
    assert step_of(best) == found["step"]
    validation = Manifest.read(tmp_path / "real").where(split="val").column("subject")
    lineage = load_generator(best)[2]
    assert lineage.selected_on() == hash_subjects(real.info.id, validation, project_key())
    assert "lowest KID" in lineage.fitted[-1].notes
    assert not load_generator(last)[2].selected_on()


class Ramped(Painted):
    """Its conditions count from the third check on."""

    @property
    def conditioned(self):
        return self.images_seen > 16


def test_checks_from_before_conditions_count_are_not_chosen(tmp_path):
    keeper = DurableCheckpoint(tmp_path / "checkpoints", every_steps=1, keep=9)
    fit(tmp_path, Ramped(), Named(), [fidelity(), KeepBestKID(), keeper], plugins=[DurableCheckpointIO()])
    kept = torch.load(newest_valid(tmp_path, "best"), weights_only=True)
    found = json.loads((tmp_path / "selection.json").read_text())
    assert kept["seen"] == found["images"] == 24 and found["checks"] == 1 and len(lines(tmp_path)) == 3
