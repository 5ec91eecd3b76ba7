"""What membership rungs promise, on phantoms: generators that were trained on few patients for long give them away."""

from pathlib import Path

import numpy as np
import pytest
from tiny_generator import fit_command

from synthrad.__main__ import main
from synthrad.audit.membership_weights import Weights, weights_rungs
from synthrad.audit.rungs import judge
from synthrad.callbacks import newest_valid
from synthrad.data.phantom import write_phantoms
from synthrad.generators.loading import load_generator

FITS = {  # nets wide enough to learn two dozen patients by heart
    "Diffusion": {"channels": "[16,32]", "lr": 0.003, "warmup_images": 100, "ema_half_life_images": 200},
    "Autoencoder": {"channels": "[16,16,16]", "latent_channels": 4, "bottleneck_weight": 0.001, "adversarial_weight": 0, "perceptual": "null", "lr": 0.003,
                    "ema_half_life_images": 200},
    "StyleGAN2": {"channel_base": 512, "channel_max": 32, "path_weight": 0, "r1_gamma": 0.001, "r1_every": 16, "ada_fixed": 0},
}


IMAGES = {"Diffusion": 12_000, "Autoencoder": 8_000, "StyleGAN2": 8_000}


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("kind", FITS)
def test_an_overfitted_generator_gives_its_patients_away(kind, tmp_path, monkeypatch):
    """AUC above 0.9 by each kind's first statistic; and, of the same weights, no alarm about patients on neither side of the fit."""
    monkeypatch.chdir(tmp_path)
    real = write_phantoms("real", 130, (32, 32), 0, fractions=(0.25, 0.05, 0.35, 0.35), images_per_subject=1)
    extra = ["--data.batch_size=16", "--trainer.callbacks.every_steps=400", "--trainer.enable_progress_bar=false"]
    assert main([*fit_command(Path("real"), tmp_path / "run", kind, 16, IMAGES[kind], **FITS[kind]), *extra]) == 0
    module, info, lineage, spec = load_generator(newest_valid(tmp_path / "run"))
    rows = real.take(np.flatnonzero(np.isin(real.column("split"), ("train", "test"))))
    weights = Weights(module, "", spec, info, lineage, "run")
    rungs = judge(weights_rungs(weights, rows, real, rungs=1, trials=20, copies=1, showings=20))
    assert rungs[0].auc[0] > 0.9 and rungs[0].verdict == "fail", [(r.name, r.reason) for r in rungs]
    # the audit split in the place of the training split: nobody of both sides was seen
    unseen = real.take(np.flatnonzero(np.isin(real.column("split"), ("audit", "test"))))
    swapped = unseen.with_columns({"split": ["train" if s == "audit" else "test" for s in unseen.column("split")]})
    blind = {**spec, "fingerprints": list(swapped.where(split="train").column("digest"))}
    for rung in judge(weights_rungs(Weights(module, "", blind, info, lineage, "run"), swapped, swapped, rungs=1, copies=1)):
        assert rung.verdict != "fail" and rung.auc[1] < 0.5 < rung.auc[2], rung.reason
