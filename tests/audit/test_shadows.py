"""Shadows: who is in them, what of the generator they take over, and that a killed attack goes on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_generator import fit_command

from synthrad.__main__ import main
from synthrad.audit import shadows
from synthrad.audit.membership_pictures import read_pictures
from synthrad.audit.shadows import Pool, Recipe, batch_of, halves, not_built, shadow_scores
from synthrad.callbacks import newest_valid
from synthrad.data.phantom import write_phantoms
from synthrad.errors import InputError
from synthrad.generators.controlled import ControlledDiffusion
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.gan import StyleGAN2
from synthrad.generators.loading import load_generator

PATIENTS = 24


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """An autoencoder that learned next to nothing, its checkpoint, and a pool of patients with one image each."""
    folder = tmp_path_factory.mktemp("shadows")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        real = write_phantoms("real", 40, (32, 32), 0, fractions=(0.3, 0.1, 0.3, 0.3), images_per_subject=1)
        assert main(fit_command(Path("real"), folder / "run", "Autoencoder", 16, 24)) == 0
        checkpoint = str(newest_valid(folder / "run"))
        module, _, _, spec = load_generator(checkpoint)
        rows = real.take(np.flatnonzero(np.isin(real.column("split"), ("train", "test"))))
        yield module, checkpoint, Pool(read_pictures(rows, spec, checkpoint), rows, np.arange(len(rows)), "reconstruction")


def test_each_patient_is_in_one_shadow_of_a_pair():
    inside = halves(25, 8, 0)
    assert inside.shape == (8, 25) and (inside.sum(0) == 4).all() and set(inside.sum(1)) == {12, 13}
    assert (inside[::2] != inside[1::2]).all() and (inside[0] != inside[2]).any()
    assert (halves(25, 8, 0) == inside).all() and (halves(25, 8, 1) != inside).any()


def test_too_few_odd_numbers_and_no_images_are_refused():
    for number in (6, 9):
        with pytest.raises(InputError, match="--shadows.*even number of at least 8"):
            Recipe(number, None, Path())
    with pytest.raises(InputError, match="--shadow-images"):
        Recipe(8, 0, Path())


def test_generators_without_shadows_are_named():
    assert not_built(Diffusion()) == "" and not_built(StyleGAN2()) == ""
    for made, word in ((Diffusion(autoencoder="x"), "latent"), (Diffusion(text="words"), "prompts"), (StyleGAN2(init_from="x"), "started from"),
                       (ControlledDiffusion("x"), "a ControlledDiffusion")):
        assert word in not_built(made)


def test_shadows_follow_the_recipe_and_a_killed_attack_goes_on(attacked, tmp_path, monkeypatch):
    module, checkpoint, pool = attacked
    assert batch_of(checkpoint) == 4 and len(pool.rows) == PATIENTS
    inside, made, train = halves(PATIENTS, 8, 0), [], shadows.train_shadow

    def watched(target, data, images, bar):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(train(target, data, images, bar))
        assert made[-1].images_seen == images and set(made[-1].spec["fingerprints"]) == set(pool.rows.take(np.flatnonzero(inside[len(made) - 1])).column("digest"))
        return made[-1]

    monkeypatch.setattr(shadows, "train_shadow", watched)
    state = torch.get_rng_state()
    attack = lambda images=8: shadow_scores(module, "digest", pool, inside, Recipe(8, images, tmp_path), 4, 0)  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        attack()
    assert torch.equal(torch.get_rng_state(), state)  # the audit's own draws do not depend on shadows
    assert sorted(p.name for p in tmp_path.glob("*.json")) == ["0.json", "1.json", "2.json"]
    assert {k: v for k, v in made[0].hparams.items() if k != "max_images"} == {k: v for k, v in module.hparams.items() if k != "max_images"}
    first = json.loads((tmp_path / "0.json").read_text())["known"]
    (tmp_path / "2.json").write_text('{"identity"')  # torn
    trained = []
    monkeypatch.setattr(shadows, "train_shadow", lambda target, data, images, bar: trained.append(1) or train(target, data, images, bar))
    found = attack()
    assert found.shape == (8, PATIENTS) and np.isfinite(found).all() and len(trained) == 6 and found[0].tolist() == first
    assert (attack() == found).all() and len(trained) == 6
    assert len(np.unique(found, axis=0)) == 8
    attack(4)  # another recipe: nothing that was kept holds
    assert len(trained) == 14


def test_a_checkpoint_that_does_not_say_its_batches_is_refused(tmp_path):
    torch.save({"loops": {}, "synthrad": {"images_seen": 4}}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="no count of the batches"):
        batch_of(str(tmp_path / "a.ckpt"))
