from dataclasses import replace

import lightning as L
import numpy as np
import pandas as pd
import pytest
import tiny_gan
import torch
from PIL import Image

from synthrad.callbacks.image_grid import ImageGrid
from synthrad.conditioning import Condition, Generator
from synthrad.datamodules.generation import GenerationDataModule
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError, RunError
from synthrad.files import file_digest
from synthrad.gan.augment import Augment
from synthrad.generators.gan import StyleGAN2
from synthrad.generators.loading import load_generator
from synthrad.manifest_table import empty_columns
from synthrad.nets import stylegan2 as sg
from synthrad.records import Manifest
from synthrad.sampling.from_checkpoint import sample_from_checkpoint

TINY = {"channel_base": 64, "channel_max": 8, "z_dim": 8, "w_dim": 8, "mapping_depth": 2, "max_images": 32,
        "r1_every": 2, "path_every": 2, "ada_speed_images": 50}


@pytest.fixture
def manifest(tmp_path):
    """12 training rows (one without a mask) and 2 others, at 16 x 16."""
    info = DatasetInfo("tiny", "tiny", classes=("a", "b"), layers={"organ": ("left", "right")}, attributes=("sex",),
                       roots={"here": str(tmp_path / "data")})
    columns = empty_columns(info, 14)
    rng = np.random.default_rng(0)
    for i in range(14):
        image, mask = rng.integers(0, 256, (16, 16), np.uint8), rng.integers(0, 3, (16, 16), np.uint8)
        for kind, array in (("images", image), ("masks", mask)):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "data" / kind / f"{i}.png")
        columns["channel:image"][i], columns["mask:organ"][i] = f"images/{i}.png", f"masks/{i}.png" if i else ""
        columns["subject"][i], columns["split"][i] = f"s{i}", "train" if i < 12 else "test"
        columns["digest"][i] = file_digest(tmp_path / "data" / f"images/{i}.png")
        columns["label:a"][i], columns["attribute:sex"][i] = i % 2, ["F", "M", ""][i % 3]
    Manifest(pd.DataFrame(columns), info).write(tmp_path / "data")
    return str(tmp_path / "data")


def fit(manifest, folder, **kwargs):
    torch.manual_seed(0)
    model, data = StyleGAN2(**{**TINY, **kwargs}), GenerationDataModule(manifest, (16, 16), 4, min_subjects=2)
    trainer = L.Trainer(accelerator="cpu", max_epochs=-1, default_root_dir=folder, logger=False, enable_progress_bar=False,
                        enable_model_summary=False, enable_checkpointing=False, callbacks=[ImageGrid(16, number=4, columns=2)])
    trainer.fit(model, data)
    trainer.save_checkpoint(folder / "last.ckpt")
    return model, trainer


def test_what_lazy_regularisation_measures_is_in_every_line(tmp_path):
    from lightning.pytorch.loggers import CSVLogger

    model, _ = tiny_gan.fit(steps=4, trainer_options={"logger": CSVLogger(tmp_path, "", ""), "log_every_n_steps": 1})
    found = pd.read_csv(tmp_path / "metrics.csv")
    kept = found[["r1", "path_penalty", "path_length"]].dropna()
    assert len(kept) == 4 and (kept > 0).all().all()
    r1 = kept["r1"].to_numpy()
    assert r1[0] == r1[1] != r1[2] == r1[3] and kept["path_length"].iloc[-1] == pytest.approx(float(model.path_mean))  # every second step
    assert found["sign_fake"].dropna().between(-1, 1).all() and not {"loss_r1", "loss_path"} & set(found)


def test_a_fit_forgets_and_says_so(manifest, tmp_path, monkeypatch):
    from synthrad.generators import conditional

    seen = []
    monkeypatch.setattr(conditional, "forget", lambda c, *rest: seen.append(rest) or c)
    fit(manifest, tmp_path / "run", max_images=4)
    assert seen == [(2, [2], 0.1)]
    path = tmp_path / "run" / "last.ckpt"
    assert load_generator(path)[3]["label_dropout"] == 0.1
    old = torch.load(path, weights_only=True)
    del old["hyper_parameters"]["label_dropout"]
    torch.save(old, path)
    ask = pd.DataFrame({"label:a": [1.0]})
    with pytest.warns(UserWarning, match="leave a label open"):
        sample_from_checkpoint(path, ask, 0, tmp_path / "set", device="cpu")
    with pytest.raises(InputError, match="truncation"):
        sample_from_checkpoint(path, ask, 0, tmp_path / "other", truncation=-3, device="cpu")


def test_fit_counts_images_stops_and_its_checkpoint_samples(manifest, tmp_path, capsys):
    model, trainer = fit(manifest, tmp_path / "run")
    assert "1 of 12" in capsys.readouterr().out
    assert model.images_seen == 32 and model.steps_done == 8
    assert len(list((tmp_path / "run" / "grids").glob("*.png"))) == 3
    loaded, info, lineage, spec = load_generator(tmp_path / "run" / "last.ckpt")
    assert isinstance(loaded, Generator) and info.classes == ("a", "b") and spec["attributes"] == {"sex": ["F", "M"]}
    assert len(lineage.trained_on()) == 11 and len(lineage.fingerprints()) == 11  # the row without a mask was not seen
    ask = Condition(labels=np.array([[1, 0]] * 3), attributes=[{}] * 3)
    one, two = model.eval().sample(ask, [5, 6, 7]), loaded.sample(ask, [5, 6, 7])
    assert torch.equal(one.image, two.image) and torch.equal(one.masks, two.masks)
    assert one.image.shape == (3, 1, 16, 16) and one.masks.max() <= 2
    other = loaded.sample(Condition(labels=np.array([[0, 0]] * 3), attributes=[{}] * 3), [5, 6, 7])
    assert not torch.equal(one.image, other.image)
    swapped = loaded.sample(ask, [9, 6, 4])  # image of seed 6 does not depend on its neighbours
    assert torch.equal(one.image[1], swapped.image[1]) and not torch.equal(one.image[0], swapped.image[0])
    far = loaded.sample(Condition(labels=np.array([[1, 0]] * 2), attributes=[{}] * 2), [12345, 12345 + 2**32])
    assert not torch.equal(far.image[0], far.image[1])  # all bits of a seed count
    ema, raw = loaded.generator_ema.const, loaded.generator.const
    assert not torch.equal(ema, raw)


def test_resume_continues_counters(manifest, tmp_path):
    fit(manifest, tmp_path / "run")
    again, data = StyleGAN2(**{**TINY, "max_images": 48}), GenerationDataModule(manifest, (16, 16), 4, min_subjects=2)
    trainer = L.Trainer(accelerator="cpu", max_epochs=-1, logger=False, enable_progress_bar=False, enable_model_summary=False,
                        enable_checkpointing=False)
    trainer.fit(again, data, ckpt_path=tmp_path / "run" / "last.ckpt", weights_only=True)
    assert again.images_seen == 48 and again.steps_done == 12


def test_judged_pictures_are_augmented_and_p_rises_with_a_sure_discriminator(manifest, tmp_path, monkeypatch):
    seen = []

    class Noted(Augment):
        def forward(self, pictures, p):
            seen.append((len(pictures), pictures.requires_grad))
            return super().forward(pictures, p)

    monkeypatch.setattr("synthrad.generators.preflight.Augment", Noted)
    model, _ = fit(manifest, tmp_path / "run", max_images=4, path_weight=0, r1_gamma=1.0, ada_speed_images=50)
    assert seen == [(4, True), (4, False), (4, False), (4, False)]  # G's fakes, D's reals and fakes, R1
    before = model.ada.p
    for name in ("log", "log_dict"):  # no fit is running
        monkeypatch.setattr(model, name, lambda *a, **k: None)
    for _ in range(2 * model.ada.every):
        model._count(4, torch.ones(4, 1))  # every real picture is called real
    assert model.ada.r_t > 0.6 and model.ada.p > before and model.ada.p > 0


def test_nan_stops_the_run(manifest, tmp_path):
    with pytest.raises(RunError, match="nan"):
        fit(manifest, tmp_path / "run", lr=1e30)


def test_another_dataset_is_refused(manifest, tmp_path):
    model, _ = fit(manifest, tmp_path / "run", max_images=4)
    with pytest.raises(InputError, match="classes"):
        model.build({**model.spec, "classes": ["z"]})
    with pytest.raises(InputError, match="untaught.*'a'"):
        model.build({**model.spec, "untaught": ["a"]})
    for key, what in (("trained_on", "1 training subjects"), ("fingerprints", "1 training images")):  # split anew
        with pytest.raises(InputError, match=what):
            model.on_load_checkpoint({"synthrad": {"spec": {**model.spec, key: model.spec[key][1:]}}})
    model.build(dict(model.spec))


def small(steps=1, **kwargs):
    """A model after a few steps on made-up pictures, ready to sample."""
    return tiny_gan.fit(steps=steps, **kwargs)[0].eval()


def labels(*rows):
    return Condition(labels=np.array(rows, dtype=float))


def test_truncation_pulls_towards_the_mean_style_of_the_images_own_condition():
    model, seeds = small(3), [5, 6, 7]
    net, ask = model.generator_ema, labels([1, 0], [0, 1], [1, 0])
    drawn = {psi: model.sample(ask, seeds, truncation=psi).image for psi in (1.0, 0.5, 1e-6)}
    with torch.no_grad():
        z, noises = [], []
        for seed in seeds:  # what sample() documents: all noise from the seed, z first
            source = np.random.Generator(np.random.PCG64(seed))
            z.append(torch.from_numpy(source.standard_normal((1, net.z_dim), dtype=np.float32)))
            noises.append([torch.from_numpy(source.standard_normal((1, 1, *s), dtype=np.float32)) for s in net.noise_shapes])
        z, noise = torch.cat(z), [torch.cat(m) for m in zip(*noises, strict=True)]
        c = model.asked(ask, 3)[0]
        assert torch.equal(drawn[1.0], net(z, c, 1.0, noise)[:, :1].clamp(-1, 1))  # as it was before conditions had centres
        fixed = np.random.Generator(np.random.PCG64(0)).standard_normal((1024, net.z_dim), dtype=np.float32)
        centre = torch.stack([sum(net.mapping(torch.from_numpy(v[None]), row[None])[0] for v in fixed) / 1024 for row in c])
        for psi in (0.5, 1e-6):
            w = centre + psi * (net.mapping(z, c) - centre)
            slow = net.synthesize(w[:, None].repeat(1, net.num_ws, 1), noise)[:, :1].clamp(-1, 1)
            torch.testing.assert_close(drawn[psi], slow, atol=1e-5, rtol=0)
    assert not torch.allclose(centre[0], centre[1], atol=1e-3)
    alone = model.sample(labels([0, 1]), [6], truncation=0.5).image
    torch.testing.assert_close(alone[0], drawn[0.5][1], atol=1e-6, rtol=0)  # whatever is drawn beside it


def test_conditions_are_standardised_alike_in_training_and_sampling_and_not_in_older_checkpoints():
    model = small(1, label_dropout=0.0)
    batch = tiny_gan.Pictures().batch(0)
    trained, asked = model.encode(batch)[1], model.asked(Condition(labels=batch.labels.numpy()), len(batch.labels))[0]
    assert torch.equal(trained, asked)
    assert sorted(set(trained[:, 0].tolist())) == pytest.approx([-0.4 / 0.24**0.5, 0.6 / 0.24**0.5])
    resumed = StyleGAN2(**model.hparams)
    resumed.build(tiny_gan.Pictures().spec())
    old = {**model.spec, "rates": None}
    checkpoint = {"synthrad": {"spec": old, "images_seen": 8, "steps_done": 1, "ada": model.ada.state_dict(), "start": None}}
    resumed.on_load_checkpoint(checkpoint)
    assert resumed.spec["rates"] is None  # weights that learned raw conditions go on with them
    del model.spec["rates"]
    assert sorted(set(model.asked(Condition(labels=batch.labels.numpy()), 8)[0][:, 0].tolist())) == [0, 1]


def test_truncation_without_a_condition_pulls_towards_the_tracked_mean():
    model = small(2, model=None, data=tiny_gan.Pictures(info=replace(tiny_gan.INFO, classes=())))
    net = model.generator_ema
    assert net.c_dim == 0 and net.w_mean.norm() > 0
    a, b = (model.sample(Condition(), [1, 2], truncation=psi).image for psi in (0.5, 1.0))
    assert not torch.equal(a, b)
    net.w_mean += 1
    assert not torch.equal(model.sample(Condition(), [1, 2], truncation=0.5).image, a)
    assert torch.equal(model.sample(Condition(), [1, 2], truncation=1.0).image, b)


class History(L.Callback):
    """The generator's weights after each step."""

    def __init__(self):
        self.weights = []

    def on_train_batch_end(self, trainer, model, *rest):
        self.weights.append({k: v.detach().clone().double() for k, v in model.generator.named_parameters()})


def test_averaged_generator_is_a_hand_loop_over_images():
    history = History()
    model, _ = tiny_gan.fit(steps=6, callbacks=[history], ema_half_life_images=2.0, ema_rampup=0.05)
    by_hand, images = None, 0
    torch.manual_seed(0)
    start = StyleGAN2(**tiny_gan.TINY)
    start.build(tiny_gan.Pictures().spec())
    by_hand = {k: v.detach().double() for k, v in start.generator.named_parameters()}
    for weights in history.weights:
        images += 8
        half_life = min(2.0, max(0.05 * images, 1.0))  # rises to 2 images
        keep = 2.0 ** (-8 / half_life)
        by_hand = {k: keep * by_hand[k] + (1 - keep) * weights[k] for k in weights}
    for name, value in model.generator_ema.named_parameters():
        torch.testing.assert_close(value.double(), by_hand[name], atol=1e-6, rtol=1e-6)
    assert torch.equal(model.generator_ema.w_mean, model.generator.w_mean)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_mean_style_is_tracked_over_the_first_latent_of_all_that_is_drawn(monkeypatch, accumulate):
    seen = []
    honest = StyleGAN2._latents

    def noted(self, n):
        seen.append((honest(self, n), n))
        with torch.no_grad():  # of the weights as they are then
            c = self.conditions[:n]
            w = self.generator.mapping(seen[-1][0].z[0], c)
            self.by_hand = self.by_hand + (1 - 0.998) * (w.double().mean(0) - self.by_hand)
        return seen[-1][0]

    def encoded(self, batch):
        real, self.conditions = encode(self, batch)
        return real, self.conditions

    encode = StyleGAN2.encode
    monkeypatch.setattr(StyleGAN2, "_latents", noted)
    monkeypatch.setattr(StyleGAN2, "encode", encoded)
    model = StyleGAN2(**tiny_gan.TINY, max_images=24, accumulate=accumulate)
    model.by_hand = torch.zeros(8, dtype=torch.float64)
    tiny_gan.fit(model=model)
    assert [n for _, n in seen] == [8, 4, 8, 8, 8, 8, 4, 8]  # a step draws for G, at times for path lengths (half), for D
    torch.testing.assert_close(model.generator.w_mean.double(), model.by_hand, atol=1e-6, rtol=1e-5)


def test_bf16_trains(capsys):
    model = small(3, precision="bf16-mixed")
    assert all(torch.isfinite(p).all() and p.dtype == torch.float32 for p in model.parameters())


def test_ada_follows_the_papers_target_by_default():
    assert StyleGAN2().ada.target == 0.6 and StyleGAN2().ada.adapts and StyleGAN2().ada.every == 4


def test_conditions_enter_along_their_ramp_and_a_checkpoint_knows_how_far(tmp_path):
    asks = [Condition(labels=np.array([[value, 0]] * 2)) for value in (0, 1)]
    ramp = {"condition_ramp": (16, 32), "max_images": 32}
    halfway, trainer = tiny_gan.fit(**ramp, trainer_options={"max_epochs": 1, "limit_train_batches": 3})
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    loaded = load_generator(tmp_path / "half.ckpt")[0]
    assert loaded.generator.mapping.share == loaded.generator_ema.mapping.share == 0.5
    one, other = (loaded.sample(a, [0, 1]).image for a in asks)
    assert torch.equal(one, halfway.sample(asks[0], [0, 1]).image) and not torch.equal(one, other)
    loaded.generator_ema.mapping.share = 0.0
    assert torch.equal(*(loaded.sample(a, [0, 1]).image for a in asks))
    more = StyleGAN2(**tiny_gan.TINY, **ramp)
    tiny_gan.trainer().fit(more, tiny_gan.Pictures(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert more.images_seen == 32 and more.generator_ema.mapping.share == 1


def test_before_the_ramp_nothing_is_learned_of_conditions_and_after_it_both_logits_teach():
    torch.manual_seed(0)
    fresh = StyleGAN2(**tiny_gan.TINY, max_images=16, condition_ramp=(8, 16))
    fresh.build(tiny_gan.Pictures().spec())
    start = {k: v.clone() for k, v in fresh.named_parameters()}
    parts = ["generator.mapping.embed.weight", "discriminator.out.weight", "discriminator.mapping.embed.weight",
             "discriminator.free.weight", "generator.const"]
    for steps, moved in ((1, [False, False, False, True, True]), (3, [True] * 5)):  # the third step is the first at share 1
        model = tiny_gan.fit(steps=steps, condition_ramp=(8, 16), max_images=8 * max(steps, 2))[0]
        assert [not torch.equal(model.get_parameter(p), start[p]) for p in parts] == moved


def test_a_fit_without_noise_samples_from_its_checkpoint(tmp_path):
    model, trainer = tiny_gan.fit(noise=False)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded, ask = load_generator(tmp_path / "last.ckpt")[0], Condition(labels=np.array([[1, 0]] * 2))
    one = loaded.sample(ask, [0, 1]).image
    assert torch.equal(one, model.sample(ask, [0, 1]).image) and not torch.equal(one[0], one[1])


def test_masks_reach_the_discriminator_as_small_as_they_are_asked_to_be(monkeypatch):
    seen = []
    judge = sg.StyleGAN2Discriminator.forward
    monkeypatch.setattr(sg.StyleGAN2Discriminator, "forward", lambda self, x, c: seen.append(x.detach()) or judge(self, x, c))
    tiny_gan.fit(steps=2, mask_scale=0.125, r1_every=1, ada_fixed=0.0)
    masks = torch.cat([x[:, 1:] for x in seen])  # of fakes, reals and R1's reals
    assert len(seen) == 8 and masks.abs().max() <= 0.125 + 1e-6
    hard = [x for x in seen if set(x[:, 1:].unique().tolist()) == {-0.125, 0.125}]
    assert len(hard) == 4 and all(x[:, 0].abs().max() > 0.5 for x in seen)  # two steps, each real batch judged and regularised
    with pytest.raises(InputError, match="model.mask_scale"):
        tiny_gan.fit(mask_scale=2.0)


def test_samples_of_half_a_ramp_are_told(tmp_path):
    model, trainer = tiny_gan.fit(condition_ramp=(0, 32), max_images=32, trainer_options={"max_epochs": 1, "limit_train_batches": 2})
    assert not model.conditioned
    with pytest.warns(UserWarning, match="after 16 images conditions count 50% .model.condition_ramp .0, 32.."):
        model.eval().sample(Condition(labels=np.array([[1, 0]])), [0])
    assert tiny_gan.fit(condition_ramp=(0, 16), max_images=16, steps=2)[0].conditioned


class Apart(tiny_gan.Pictures):
    """Pictures that show a or b, never both."""

    def batch(self, k, rank=0):
        case = super().batch(k, rank)
        case.labels[:, 1] = 1 - case.labels[:, 0]
        return case


def test_classes_never_seen_together_can_be_asked_for_together():
    model, _ = tiny_gan.fit(Apart(), steps=4)
    asked = [[1, 1], [1, 0], [0, 1], [0, 0], [1, np.nan]]
    drawn = model.eval().sample(Condition(labels=np.array(asked, float)), [7] * 5).image  # the same noise
    assert torch.isfinite(drawn).all() and all((drawn[0] - other).abs().max() > 1e-4 for other in drawn[1:])
