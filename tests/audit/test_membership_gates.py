"""What membership rungs promise, on phantoms: a generator that knows its few patients by heart gives them away, and nobody else.

One fit a kind, of 21 patients; its options are those that overfit soonest: nets wide for the pictures, an average that hardly lags, and nothing
that holds a GAN's discriminator back. The same weights are asked about patients whom they never saw on either side.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tiny_generator import fit_command

from synthrad.__main__ import main
from synthrad.audit.membership_weights import Weights, weights_rungs
from synthrad.audit.rungs import Rung, judge
from synthrad.callbacks import newest_valid
from synthrad.data.phantom import write_phantoms
from synthrad.generators.loading import load_generator
from synthrad.records import Manifest

FITS = {  # pixels on a side, images a step, images shown, options
    "Autoencoder": (16, 16, 7_500, {"channels": "[16,32,64]", "latent_channels": 8, "bottleneck_weight": 0.001, "adversarial_weight": 0, "perceptual": "null",
                            "lr": 0.003, "ema_half_life_images": 200}),
    "StyleGAN2": (16, 16, 22_000, {"channel_base": 256, "channel_max": 64, "lr": 0.005, "r1_gamma": 0, "path_weight": 0, "ada_fixed": 0, "style_mixing": 0,
                           "noise": "false", "label_dropout": 0, "ema_half_life_images": 200}),
}


@dataclass(frozen=True)
class Fitted:
    """A generator, its checkpoint loaded, and all rows of its data."""

    weights: Weights
    real: Manifest


@pytest.fixture(scope="module", params=FITS)
def overfitted(request, tmp_path_factory):
    folder, (size, batch, images, options) = tmp_path_factory.mktemp(request.param), FITS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        real = write_phantoms("real", 130, (32, 32), 0, fractions=(0.16, 0.05, 0.44, 0.35), images_per_subject=1)
        extra = ["--data.attributes=[]", "--data.layers=[]", f"--data.batch_size={batch}", "--trainer.callbacks.every_steps=10000", "--trainer.enable_progress_bar=false"]
        assert main([*fit_command(Path("real"), folder / "run", request.param, size, images, **options), *extra]) == 0
        module, info, lineage, spec = load_generator(newest_valid(folder / "run"))
    return Fitted(Weights(module, "", spec, info, lineage, "run"), real)


def asked(fitted: Fitted, inside: str) -> list[Rung]:
    """The rungs, were the patients of this split the training patients; nobody is left to plant."""
    rows = fitted.real.take(np.flatnonzero(np.isin(fitted.real.column("split"), (inside, "test"))))
    rows = rows.with_columns({"split": ["train" if s == inside else s for s in rows.column("split")]})
    weights = fitted.weights
    shown = {**weights.spec, "fingerprints": list(rows.where(split="train").column("digest"))}
    return judge(weights_rungs(Weights(weights.module, "", shown, weights.info, weights.lineage, "run"), rows, rows, rungs=1))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_overfitted_generator_gives_its_patients_away(overfitted):
    for rung in asked(overfitted, "train"):
        assert rung.auc[0] > 0.9 and rung.verdict == "fail", (rung.name, rung.reason)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_weights_say_nothing_of_patients_whom_they_never_saw(overfitted):
    for rung in asked(overfitted, "audit"):
        assert rung.auc[1] < 0.5 < rung.auc[2] and rung.verdict != "fail", (rung.name, rung.reason)
