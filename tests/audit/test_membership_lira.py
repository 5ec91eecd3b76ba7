"""`membership/lira` on phantoms: a generator that overfitted a little is found out by its shadows, one that learned next to nothing is not accused."""

from pathlib import Path

import numpy as np
import pytest
from tiny_generator import fit_command

from synthrad.__main__ import main
from synthrad.audit import membership_lira
from synthrad.audit.membership_lira import lira_rung
from synthrad.audit.membership_weights import Weights, weights_rungs
from synthrad.audit.rungs import judge
from synthrad.audit.shadows import Recipe
from synthrad.callbacks import newest_valid
from synthrad.data.phantom import write_phantoms
from synthrad.generators.loading import load_generator

WIDE = {"channels": "[16,32,64]", "latent_channels": 8, "bottleneck_weight": 0.001, "adversarial_weight": 0, "perceptual": "null", "lr": 0.003,
        "ema_half_life_images": 200}
UNCONDITIONAL = ["--data.classes=[]", "--data.attributes=[]", "--data.layers=[]", "--trainer.callbacks.every_steps=10000",
                 "--trainer.enable_progress_bar=false"]


def fitted(folder, monkeypatch, images, batch, **options):
    """27 training and 27 test patients, and an autoencoder that was shown so many images."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(folder))
    real = write_phantoms("real", 60, (32, 32), 0, fractions=(0.45, 0.05, 0.05, 0.45), images_per_subject=1)
    command = fit_command(Path("real"), folder / "run", "Autoencoder", 16, images, **options)
    assert main([*command, *UNCONDITIONAL, f"--data.batch_size={batch}"]) == 0
    checkpoint = str(newest_valid(folder / "run"))
    module, info, lineage, spec = load_generator(checkpoint)
    return Weights(module, "digest", spec, info, lineage, checkpoint), real.take(np.flatnonzero(np.isin(real.column("split"), ("train", "test"))))


def test_a_generator_that_learned_next_to_nothing_gives_nobody_away(tmp_path, monkeypatch):
    weights, rows = fitted(tmp_path, monkeypatch, 16, 4)
    rung = lira_rung(weights, rows, Recipe(8, 8, tmp_path / "shadows"), rungs=1, trials=20, copies=1, showings=2)
    assert rung.auc[1] < 0.5 < rung.auc[2] and judge([rung])[0].verdict != "fail", rung.reason
    assert set(rung.power["overfitted"]) == {20, 25} and rung.planted == 20 and rung.facts["shadow_images"] == 8
    assert "27 training and 27 test patients" in rung.reason and "8 shadows, each shown 8 images" in rung.reason
    few = lira_rung(weights, rows.take(np.flatnonzero(rows.column("split") == "train")), Recipe(8, 8, tmp_path / "shadows"), rungs=1)
    assert few.p is None and "at least 20 of each" in few.reason
    monkeypatch.setattr(membership_lira, "not_built", lambda module: "there are no shadows of it")
    assert judge([lira_rung(weights, rows, Recipe(8, 8, tmp_path), rungs=1)])[0].verdict == "not tested"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_shadows_find_who_a_loss_alone_hardly_shows(tmp_path, monkeypatch):
    weights, rows = fitted(tmp_path, monkeypatch, 3_600, 16, **WIDE)
    plain = weights_rungs(weights, rows, rows, rungs=1)[0]
    rung = lira_rung(weights, rows, Recipe(8, None, tmp_path / "shadows"), rungs=1, trials=20, copies=1, showings=20)
    assert rung.auc[0] > plain.auc[0] + 0.05 and rung.auc[0] > 0.9 and judge([rung])[0].verdict == "fail", (plain.reason, rung.reason)
