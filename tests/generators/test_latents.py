"""Latent diffusion: on a frozen autoencoder, whose latents are kept, and which stays in the checkpoint."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_generator import fit_command, same_weights, sample_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.conditioning import Condition
from synthrad.datamodules.generation import GenerationDataModule
from synthrad.errors import InputError
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.latents import KeptLatents, read_autoencoder
from synthrad.generators.loading import load_generator
from synthrad.records import Manifest


def fit(model, real, run, images=24, extra=(), **options):
    return main([*fit_command(real, run, model, 32, images, **options), *extra])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    make(folder / "real")
    assert fit("Autoencoder", folder / "real", folder / "joint") == 0
    assert fit("Autoencoder", folder / "real", folder / "alone", masks="none") == 0
    return folder


@pytest.fixture(scope="module")
def drawn(made):
    assert fit("Diffusion", made / "real", made / "ldm", autoencoder=newest_valid(made / "joint")) == 0
    return newest_valid(made / "ldm")


def test_it_draws_without_the_autoencoders_file_and_names_it_in_the_lineage(made, drawn, tmp_path):
    away = newest_valid(made / "joint")
    away.rename(tmp_path / "away.ckpt")
    try:
        assert main(sample_command(drawn, made / "real", tmp_path / "set")) == 0
    finally:
        (tmp_path / "away.ckpt").rename(away)
    fitted = Manifest.read(tmp_path / "set").info.lineage.fitted
    assert [f.kind for f in fitted] == ["autoencoder", "generator"] and fitted[0].trained_on == fitted[1].trained_on
    module, source = load_generator(drawn)[0], load_generator(away)[0]
    for name, tensor in source.net_ema.state_dict().items():
        assert torch.equal(module.autoencoder.net_ema.state_dict()[name], tensor), name
    assert torch.equal(module.autoencoder.latent_moments, source.latent_moments) and module.autoencoder.net is None
    assert module.net.net.out_channels == 2 and not any(p.requires_grad for p in module.autoencoder.parameters())


def test_a_resumed_fit_ends_as_an_uninterrupted_one(made, drawn, tmp_path):
    path = newest_valid(made / "joint")
    assert fit("Diffusion", made / "real", tmp_path, 12, autoencoder=path) == 0
    assert fit("Diffusion", made / "real", tmp_path, autoencoder=path, extra=[f"--ckpt_path={newest_valid(tmp_path)}"]) == 0
    assert same_weights(drawn, newest_valid(tmp_path))


def test_a_resumed_fit_keeps_its_autoencoder(made, drawn, tmp_path, capsys):
    assert fit("Autoencoder", made / "real", tmp_path / "other", 8) == 0
    other = newest_valid(tmp_path / "other")
    assert fit("Diffusion", made / "real", made / "ldm", 32, autoencoder=other, extra=[f"--ckpt_path={drawn}"]) == 2
    assert "model.autoencoder" in capsys.readouterr().err


def test_latents_are_those_of_the_pictures_and_are_made_once(made):
    data = GenerationDataModule(str(made / "real"), (32, 32), 4)
    spec = data.spec()
    net, entry, _ = read_autoencoder(str(newest_valid(made / "joint")), spec, "draw")
    kept = KeptLatents(data, made / "kept", net, entry["digest"], batch=5)
    kept.make()
    rows = torch.tensor([3, 0, 7])
    cases = [data.case(int(i)) for i in rows]
    pictures = torch.cat([net.pictures(type(c)(c.image[None], c.masks[None], c.labels, c.index, c.attributes)) for c in cases])
    mean, deviation = net.to_latents(pictures)
    noise = torch.randn(mean.shape)
    torch.testing.assert_close(kept.draw(rows, noise), mean + deviation * noise, atol=1e-5, rtol=1e-4)
    before = kept.path.stat().st_mtime_ns
    kept.make()
    assert kept.path.stat().st_mtime_ns == before
    kept.path.write_bytes(kept.path.read_bytes()[:200])  # half a file
    kept.make()
    torch.testing.assert_close(kept.draw(rows, 0 * noise), mean, atol=1e-5, rtol=1e-4)
    assert np.isfinite(np.load(kept.path)).all()


class Processes:
    """Stands for the strategy of one of two processes, which are threads here."""

    world_size, told, said, gate = 2, [None], [None, None], None

    def __init__(self, rank):
        self.global_rank = rank

    def barrier(self):
        self.gate.wait(60)

    def reduce_boolean_decision(self, decision):
        self.said[self.global_rank] = decision
        self.barrier()
        return all(self.said)

    def broadcast(self, value):
        if self.global_rank == 0:
            self.told[0] = value
        self.barrier()
        found = self.told[0]
        self.barrier()
        return found


def test_processes_share_the_encoding(made, tmp_path, monkeypatch):
    monkeypatch.setattr(Processes, "gate", threading.Barrier(2))
    data = GenerationDataModule(str(made / "real"), (32, 32), 4)
    net, entry, _ = read_autoencoder(str(newest_valid(made / "joint")), data.spec(), "draw")
    alone = KeptLatents(data, tmp_path / "alone", net, entry["digest"], batch=3)
    alone.make()
    asked = {0: [], 1: []}
    shared = [KeptLatents(data, tmp_path / "shared", net, entry["digest"], batch=3) for _ in range(2)]
    for rank, kept in enumerate(shared):
        kept._data = SimpleNamespace(train=data.train, case=lambda i, r=rank: asked[r].append(i) or data.case(i))
    threads = [threading.Thread(target=kept.make, args=(Processes(rank),)) for rank, kept in enumerate(shared)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert np.array_equal(np.load(shared[0].path), np.load(alone.path))
    assert sorted(asked[0] + asked[1]) == list(range(len(data.train))) and min(len(asked[0]), len(asked[1])) > 0
    noise = torch.randn(2, *net.net_ema.latent_shape)
    assert torch.equal(shared[0].draw(torch.tensor([0, 5]), noise), shared[1].draw(torch.tensor([0, 5]), noise))
    assert [f.name for f in (tmp_path / "shared").iterdir()] == [shared[0].path.name]  # no draft is left


def test_latents_of_one_process_that_are_not_finite_stop_all(made, tmp_path, monkeypatch):
    monkeypatch.setattr(Processes, "gate", threading.Barrier(2))
    data = GenerationDataModule(str(made / "real"), (32, 32), 4)
    net, entry, _ = read_autoencoder(str(newest_valid(made / "joint")), data.spec(), "draw")
    kept = [KeptLatents(data, tmp_path / "shared", net, entry["digest"], batch=3) for _ in range(2)]
    encode, said = KeptLatents._encode, []
    monkeypatch.setattr(KeptLatents, "_encode", lambda self, draft, rank, ranks: encode(self, draft, rank, ranks) and rank == 0)

    def make(rank):
        with pytest.raises(InputError, match="latents that are not finite") as e:
            kept[rank].make(Processes(rank))
        said.append(e)

    threads = [threading.Thread(target=make, args=(rank,)) for rank in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert len(said) == 2 and not list((tmp_path / "shared").iterdir())


def test_from_masks_at_the_latents_size(made, tmp_path):
    assert fit("Diffusion", made / "real", tmp_path / "run", autoencoder=newest_valid(made / "alone"), masks="given") == 0
    assert main(sample_command(newest_valid(tmp_path / "run"), made / "real", tmp_path / "set")) == 0
    assert {f.kind for f in Manifest.read(tmp_path / "set").info.lineage.fitted} == {"autoencoder", "generator", "masks"}


def test_masks_are_read_as_the_autoencoder_wrote_them(made, drawn):
    module = load_generator(drawn)[0]
    one = module.sample(Condition(), [3]).masks
    module.hparams.mask_encoding = "scalar"  # what the model itself would have encoded
    assert torch.equal(module.sample(Condition(), [3]).masks, one)


def test_what_does_not_fit_together(made, drawn):
    spec = GenerationDataModule(str(made / "real"), (32, 32), 4).spec()
    joint, alone = (str(newest_valid(made / name)) for name in ("joint", "alone"))
    for path, changed, masks, words in (
        ("none.ckpt", {}, "draw", "no file"), (str(drawn), {}, "draw", "a Diffusion"), (joint, {"size": [64, 64]}, "draw", "size"),
        (joint, {"channels": ["a", "b"]}, "draw", "channels"), (joint, {}, "given", "images with their masks"),
        (alone, {}, "draw", "images alone"), (joint, {"layers": {"other": ["x"]}}, "draw", "layers"),
        (joint, {"info": {**spec["info"], "intensity": {"low": 0.0, "high": 4095.0}}}, "draw", "grey values"),
    ):
        with pytest.raises(InputError, match=words):
            read_autoencoder(path, {**spec, **changed}, masks)
    with pytest.raises(InputError, match="no file"):
        Diffusion(autoencoder="none.ckpt").build({**spec, "absent": []})
