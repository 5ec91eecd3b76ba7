import time

import lightning as L
import pytest
import torch
from forks import forks
from lightning.pytorch.plugins import MixedPrecision
from tiny_gan import TINY, Pictures, fit

from synthrad.callbacks import DurableCheckpoint, DurableCheckpointIO, newest_valid
from synthrad.errors import RunError
from synthrad.generators import conditional, gan, guards
from synthrad.generators.gan import StyleGAN2


class At(L.Callback):
    """Call a function with the model before batch k or after it."""

    def __init__(self, k, before=None, after=None):
        self.k, self.before, self.after = k, before, after

    def on_train_batch_start(self, trainer, model, batch, k):
        if self.before and k == self.k:
            self.before(model, batch)

    def on_train_batch_end(self, trainer, model, outputs, batch, k):
        if self.after and k == self.k:
            self.after(model)


def stopped(folder, *callbacks, match, durable=True, **kwargs):
    """A fit of 5 steps that saves each one and must stop; the model as it was left. No file may hold a NaN."""
    model = StyleGAN2(**TINY, max_images=40, **kwargs)
    options = {"enable_checkpointing": True, "default_root_dir": folder}
    options["plugins"] = [DurableCheckpointIO()] if durable else []
    with pytest.raises(RunError, match=match):
        fit(model=model, callbacks=[*callbacks, DurableCheckpoint(every_steps=1)], trainer_options=options)
    files = list((folder / "checkpoints").glob("*.ckpt"))
    assert files
    for path in files:
        saved = torch.load(path, weights_only=True)
        tensors = [v for _, v in guards._tensors([saved["state_dict"], saved["optimizer_states"]], "")]
        assert len(tensors) > 100 and all(torch.isfinite(v).all() for v in tensors)
    assert not durable or newest_valid(folder) is not None
    return model


def weights(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def unchanged(net, before):
    return all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_data(tmp_path, value):
    before = {}

    def spoil(model, batch):
        batch.image[5, 0, 3, 3] = value
        before.update(weights(model.generator))

    model = stopped(tmp_path, At(2, spoil), match="data: picture 5 of the batch after 16 images is not finite")
    assert unchanged(model.generator, before)


@pytest.mark.parametrize(("function", "name"), [("generator_loss", "loss_g"), ("real_loss", "loss_d"), ("fake_loss", "loss_d"),
                                                ("r1_penalty", "loss_r1"), ("path_penalty", "loss_path")])
def test_loss(tmp_path, monkeypatch, function, name):
    honest, before = getattr(gan, function), {}

    def spoiled(*args, **kwargs):
        out = honest(*args, **kwargs)
        return (out[0] * float("nan"), out[1]) if isinstance(out, tuple) else out * float("nan")

    def begin(model, batch):
        monkeypatch.setattr(gan, function, spoiled)
        before.update(weights(model.discriminator))

    model = stopped(tmp_path, At(2, begin), match=f"{name} is nan after 16 images; the weights were not updated")
    if name in ("loss_g", "loss_path", "loss_d"):  # R1 comes after a step of the discriminator
        assert unchanged(model.discriminator, before)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradient_of_a_finite_loss(tmp_path, accumulate):
    before = {}

    def begin(model, batch):
        model.discriminator.out.weight.register_hook(lambda g: g + torch.tensor([float("inf")] + [0.0] * (len(g[0]) - 1)))
        before.update(weights(model.discriminator))

    model = stopped(tmp_path, At(3, begin), match="loss_d: its gradient is not finite .inf. after 24 images", accumulate=accumulate)
    assert unchanged(model.discriminator, before)


def test_average(tmp_path, monkeypatch):
    honest = conditional.update_average

    def spoiled(average, source, decay):
        honest(average, source, decay)
        average.const.data[0, 0, 0, 0] = float("nan")

    stopped(tmp_path, At(2, lambda *_: monkeypatch.setattr(conditional, "update_average", spoiled)),
            match="averaged net is not finite after 24 images .const.")


@pytest.mark.parametrize("durable", [True, False])
def test_whatever_saves_does_not_save_nan(tmp_path, durable):
    def weight(model):
        model.discriminator.conv.weight.data[0, 0, 0, 0] = float("nan")

    stopped(tmp_path / "weight", At(2, after=weight), match="state_dict.discriminator.conv.weight is not finite", durable=durable)

    def state(model):
        first = next(iter(model.optimizers()[0].state.values()))
        first["exp_avg_sq"].fill_(float("inf"))

    stopped(tmp_path / "state", At(2, after=state), match="optimizer_states.0.*exp_avg_sq is not finite", durable=durable)


def test_norms_notice_what_is_too_large_to_square():
    assert torch.isinf(guards.total_norm([torch.full((2,), 1e30)])) and guards.total_norm([torch.zeros(0), torch.arange(3)]) == 0
    assert guards.total_norm([torch.tensor([3.0]), torch.tensor([[4.0]])]) == 5


class Noted(StyleGAN2):
    """Each process writes down why it stopped."""

    folder = None

    def training_step(self, batch, k):
        try:
            super().training_step(batch, k)
        except RunError as e:
            (self.folder / f"{self.global_rank}.txt").write_text(f"{self.images_seen} {e}")
            deadline = time.monotonic() + 20  # the first process to die takes the others with it
            while len(list(self.folder.glob("*.txt"))) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            raise


@forks
@pytest.mark.parametrize("what", ["data", "loss"])
def test_all_processes_stop_at_the_nan_of_one(tmp_path, monkeypatch, what):
    """Else the others would wait for its gradients until they time out."""
    honest = gan.generator_loss

    def spoil(model, batch):
        if model.global_rank == 1 and what == "data":
            batch.image[0, 0, 0, 0] = float("nan")
        if model.global_rank == 1 and what == "loss":
            monkeypatch.setattr(gan, "generator_loss", lambda x: honest(x) + float("inf"))  # its gradient stays finite

    model = Noted(**TINY, max_images=40)
    model.folder = tmp_path
    with pytest.raises(Exception, match="RunError"):
        fit(Pictures(4), model, devices=2, callbacks=[At(1, spoil)])
    for rank in range(2):
        text = (tmp_path / f"{rank}.txt").read_text()
        assert text.startswith("8 ") and ("data: " in text if what == "data" else "loss_g is inf" in text)


def float16(scale):
    return {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))]}


def test_float16_trains_and_a_skipped_step_is_no_fault():
    """Lightning scales the loss, takes the scale off before each step and skips those whose gradients overflow."""
    model, trainer = fit(steps=3, precision=None, trainer_options=float16(2.0**16))
    assert model.images_seen == 24 and all(torch.isfinite(p).all() for p in model.parameters())
    torch.manual_seed(0)
    start = StyleGAN2(**TINY)
    start.build(Pictures().spec())
    assert not unchanged(model.generator, weights(start.generator))
    model, trainer = fit(steps=1, precision=None, trainer_options=float16(2.0**120), path_weight=0.0, r1_gamma=0.0)
    scaler = trainer.precision_plugin.scaler
    assert unchanged(model.discriminator, weights(start.discriminator)) and scaler.get_scale() < 2.0**120


def test_float16_that_only_skips_is_told():
    with pytest.raises(RunError, match="scale has fallen to 1e-06.*bf16-mixed"):
        fit(steps=1, precision=None, trainer_options=float16(1e-6))
