"""A diffusion model that two processes share out (trainer.strategy=fsdp): the weights, samples, checkpoints and stops of one process."""

from datetime import timedelta
from functools import partial

import lightning as L
import pytest
import torch
from forks import forks, in_ranks
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from test_guards import At
from test_ranks_diffusion import MODELS, distance, final, moved
from tiny_gan import Pictures, fit
from tiny_generator import fit_command, same_weights, sample_command, weights
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import DurableCheckpoint, DurableCheckpointIO, newest_valid
from synthrad.callbacks.checks import EveryImages
from synthrad.callbacks.durable_checkpoint import step_of
from synthrad.conditioning import Condition
from synthrad.errors import InputError, RunError
from synthrad.generators import diffusion, guards
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.loading import load_generator
from synthrad.generators.sharding import FullySharded, named

NET = {"channels": (8, 16), "attention": (False, True), "res_blocks": 1, "head_channels": 8, "steps": 2, "flash": True}


def in_parts(model, callbacks=(), precision="32-true", data=None, **options):
    """In one of two processes: a fit, sharing out the model."""
    strategy = FullySharded(process_group_backend="gloo", timeout=timedelta(seconds=60))
    fit(data or Pictures(4), model, devices=2, precision=precision, callbacks=callbacks, trainer_options={"strategy": strategy, **options})


class Kept(L.Callback):
    """How many numbers of the weights and of Adam's moments each process holds."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_end(self, trainer, model):
        here = lambda t: t.to_local().numel() if hasattr(t, "to_local") else t.numel()  # noqa: E731
        moments = [v for s in trainer.optimizers[0].state.values() for v in s.values() if v.ndim]
        found = {"net": model.net.parameters(), "net_ema": model.net_ema.parameters(), "moments": moments}
        torch.save({k: [sum(map(here, v)), sum(t.numel() for t in v)] for k, v in ((k, list(v)) for k, v in found.items())},
                   self.folder / f"kept{trainer.global_rank}.pt")


def shared(model, folder, precision="64-true", data=None):
    """The whole state that two processes end with, as the first one gathers it."""
    folder.mkdir()
    model.folder = folder
    assert in_ranks(partial(in_parts, precision=precision, data=data), model, [Kept(folder)]) == [0, 0]
    return torch.load(folder / "rank0.pt", weights_only=True)


@forks
@pytest.mark.parametrize(("kind", "more"), [("pixels", {"accumulate": 2}), *(pytest.param(k, {}, marks=pytest.mark.slow) for k in ("pixels", "recomputed"))],
                         ids=["parts", "plain", "recomputed"])
def test_two_processes_in_parts_give_the_weights_of_one(kind, more, tmp_path):
    """Five steps in float64, averages too, to 1e-12; each process keeps half of the numbers."""
    (whole,) = final(MODELS[kind](), tmp_path / "whole")
    found = shared(MODELS[kind](**more), tmp_path / "two")
    assert distance(whole, found) < 1e-12
    fresh = MODELS[kind]()
    fresh.build(Pictures().spec())
    assert distance(fresh.state_dict(), found) > 1e-4
    for rank in range(2):
        for own, all_ in torch.load(tmp_path / "two" / f"kept{rank}.pt", weights_only=True).values():
            assert 0.4 * all_ < own < 0.6 * all_


@forks
@pytest.mark.slow
def test_bf16_in_parts(tmp_path):
    """bf16-mixed: in parts as whole beside each other."""
    one = final(MODELS["pixels"](), tmp_path / "one", 4, devices=2, precision="bf16-mixed")[0]
    found = shared(MODELS["pixels"](), tmp_path / "two", "bf16-mixed")
    start = MODELS["pixels"]()
    torch.manual_seed(0)
    start.build(Pictures().spec())
    (near,) = moved(start.state_dict(), one, found)
    assert near < 0.05


class Draws(EveryImages):
    """The first process draws alone, as checks do."""

    def __init__(self, folder):
        super().__init__(16, 0)
        self.folder = folder

    def at_mark(self, trainer, model):
        if trainer.is_global_zero:
            torch.save(drawn(model), self.folder / f"drawn{model.images_seen}.pt")


def drawn(model):
    return model.sample(Condition(labels=torch.tensor([[1.0, 0.0], [0.0, 1.0]]).numpy()), [5, 6]).image


def saving(folder):
    """Trainer's options for a fit that saves every step."""
    return {"enable_checkpointing": True, "default_root_dir": folder, "plugins": [DurableCheckpointIO()]}


@forks
def test_the_first_process_draws_and_what_it_saves_draws_the_same(tmp_path):
    model, callbacks = Diffusion(**NET, max_images=16), [Draws(tmp_path), DurableCheckpoint(every_steps=1)]
    assert in_ranks(partial(in_parts, **saving(tmp_path)), model, callbacks) == [0, 0]
    saved = newest_valid(tmp_path)
    assert step_of(saved) == 2 and len(torch.load(saved, weights_only=True)["optimizer_states"][0]["state"]) > 50
    model = load_generator(saved)[0]
    before, after = (torch.load(tmp_path / f"drawn{n}.pt", weights_only=True) for n in (8, 16))
    assert torch.equal(after, drawn(model)) and not torch.equal(before, after)


class Spoiled(torch.autograd.Function):
    """As it is forward, and NaN backward."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * float("nan")


def spoiled_fit(folder, rank):
    """In one of two processes: 7 where the fit stops at the gradient that rank `rank` spoils."""

    def spoil(model, batch):
        if model.global_rank == rank:
            honest = diffusion.noised_loss
            diffusion.noised_loss = lambda *args: Spoiled.apply(honest(*args))

    try:
        in_parts(Diffusion(**NET, max_images=24), [At(1, before=spoil), DurableCheckpoint(every_steps=1)], **saving(folder))
    except RunError:
        return 7
    return 0


@forks
@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_nan_in_one_part_stops_all(tmp_path, rank):
    assert in_ranks(spoiled_fit, tmp_path, rank) == [7, 7]
    saved = torch.load(newest_valid(tmp_path), weights_only=True)
    assert saved["global_step"] == 1
    guards.check_checkpoint(saved)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A real set and the folder of a fit by the command line, three steps in two parts."""
    folder = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        make(folder / "real")
        assert in_ranks(main, command(folder / "real", folder / "whole", "--trainer.callbacks+=ImageGrid", "--trainer.callbacks.number=4")) == [0, 0]
    return folder


def command(real, run, *more):
    return [*fit_command(real, run, "Diffusion", images=24, flash="true"), "--trainer.devices=2", "--trainer.strategy=fsdp", *more]


@forks
@pytest.mark.slow
def test_by_the_command_line(lab, tmp_path, monkeypatch):
    """Grids are drawn, a fit goes on exactly in two parts, and goes on in one process; the set is drawn by the plain command."""
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(lab))
    real, whole = lab / "real", lab / "whole"
    assert len(list((whole / "grids").glob("*.png"))) >= 1
    middle = min((whole / "checkpoints").glob("last-*.ckpt"), key=step_of)
    assert step_of(middle) == 2
    assert in_ranks(main, command(real, tmp_path / "again", f"--ckpt_path={middle}")) == [0, 0]
    assert same_weights(newest_valid(tmp_path / "again"), newest_valid(whole))
    states = [torch.load(newest_valid(f), weights_only=True)["optimizer_states"][0]["state"] for f in (tmp_path / "again", whole)]
    assert all(torch.equal(states[0][i][k], v) for i, s in states[1].items() for k, v in s.items())
    alone = [*fit_command(real, tmp_path / "alone", "Diffusion", images=24, flash="true"), f"--ckpt_path={middle}"]
    assert main(alone) == 0
    assert step_of(newest_valid(tmp_path / "alone")) == 4 and not same_weights(newest_valid(tmp_path / "alone"), middle)
    assert main(sample_command(newest_valid(whole), real, tmp_path / "set")) == 0
    assert {str(v.dtype) for v in weights(newest_valid(whole)).values()} == {"torch.float32"}


@forks
def test_what_cannot_be_shared_out(tmp_path, capfd):
    real = tmp_path / "real"
    make(real)
    gan = [*fit_command(real, tmp_path / "gan"), "--trainer.devices=2", "--trainer.strategy=fsdp"]
    assert in_ranks(main, gan) == [2, 2]
    assert "trainer.strategy: found fsdp for a StyleGAN2; expected a diffusion model" in capfd.readouterr().err
    assert main([*fit_command(real, tmp_path / "other"), "--trainer.strategy=fsdp_cpu_offload"]) == 2
    assert "trainer.strategy: found fsdp_cpu_offload" in capfd.readouterr().err
    words = [*command(real, tmp_path / "words"), "--model.text=words", "--data.prompt={findings}"]
    assert in_ranks(main, words) == [2, 2]
    assert "model.text: found words with trainer.strategy=fsdp" in capfd.readouterr().err
    with pytest.raises(InputError, match="found FSDPStrategy"):
        named(FSDPStrategy())
    ddp = DDPStrategy()
    assert named(ddp) is ddp
