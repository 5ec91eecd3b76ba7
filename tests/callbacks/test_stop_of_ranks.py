"""SIGTERM and SIGUSR1 to one of two processes that train a GAN: both stop at one step, and go on to the bits of an undisturbed fit.

All points of a step are in tests/gates/test_gate_signals.py; one of them here.
"""

import json
import os
import signal
import time
from pathlib import Path

import torch
from forks import forks, in_child
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import Preemption, newest_valid
from synthrad.callbacks.durable_checkpoint import step_of
from synthrad.errors import RunError
from synthrad.generators.gan import StyleGAN2

SECONDS = 15  # from the signal to the end of the last process
POINTS = {  # where a signal comes: hook of the GAN and number of its call
    "first step": ("training_step", 1), "later step": ("training_step", 3), "last step": ("training_step", 5),
    "between the nets": ("step", 7), "end of a step": ("count", 2), "saving": ("on_save_checkpoint", 2),
    "next batch": ("on_train_batch_start", 4), "waiting for the other": ("training_step", 2),
}


def command(real, run):
    """Five steps of 8 images on two processes; each is saved."""
    return [*fit_command(real, run, images=40), "--trainer.devices=2", "--trainer.strategy=ddp_fork_find_unused_parameters_true"]


def fit(argv):
    """In a fork, which starts others: there is no CUDA that could be lost on the way (see `forks`)."""
    torch.cuda._is_in_bad_fork = lambda: False
    return main(argv)


def whole_fit(folder):
    """The real set and the folder of an undisturbed fit."""
    make(folder / "real")
    assert in_child(fit, command(folder / "real", folder / "whole")) == 0
    return folder / "real", folder / "whole"


def disturbed(real, run, number, rank, point):
    """In a fork: fit, with a signal to a rank; each rank notes where it stopped."""
    hook, call = POINTS[point]
    own, stop, calls = getattr(StyleGAN2, hook), Preemption._stop, [0]
    pid = run / "pid"

    def send(to):
        (run / "sent").write_text(str(time.monotonic()))
        os.kill(to, number)

    def wrapped(self, *args):
        calls[0] += 1
        here = calls[0] == call
        if here and point != "waiting for the other" and self.global_rank == rank:
            send(os.getpid())
        if here and point == "waiting for the other" and self.global_rank == rank:
            pid.write_text(str(os.getpid()))
        if here and point == "waiting for the other" and self.global_rank != rank:
            while not (pid.exists() and pid.read_text()):
                time.sleep(0.01)
            time.sleep(0.2)  # the other one waits for our gradients by now
            send(int(pid.read_text()))
        return own(self, *args)

    def noting(self, trainer, flag, saved):
        try:
            stop(self, trainer, flag, saved)
        except RunError as e:
            facts = {"step": trainer.global_step, "images": trainer.lightning_module.images_seen, "at": time.monotonic(), "said": str(e)}
            (run / f"stopped{trainer.global_rank}.json").write_text(json.dumps(facts))
            while len(list(run.glob("stopped*.json"))) < 2 and time.monotonic() < facts["at"] + SECONDS:
                time.sleep(0.01)  # the first process to end takes the other with it
            raise

    setattr(StyleGAN2, hook, wrapped)
    Preemption._stop = noting
    return fit(command(real, run))


def stopped_in_child(*args):
    try:
        return disturbed(*args)
    except Exception:  # of the launcher: a rank has ended with an error
        return 3


def faults(real, whole, run, number, rank, point):
    """What is wrong after a signal: nothing, if all is well."""
    run.mkdir()
    code = in_child(stopped_in_child, real, run, number, rank, point)
    ended = sorted(run.glob("stopped*.json"))
    if code != 3 or len(ended) != 2:
        return [f"{len(ended)} processes stopped, exit code {code}"]
    one, two = (json.loads(p.read_text()) for p in ended)
    found, saved = [], newest_valid(run)
    if took := [x["at"] for x in (one, two) if x["at"] - float((run / "sent").read_text()) > SECONDS]:
        found.append(f"{len(took)} processes took over {SECONDS} s")
    if (one["step"], one["images"]) != (two["step"], two["images"]):
        found.append(f"steps {one['step']} and {two['step']}")
    if signal.Signals(number).name not in one["said"] or "The same command resumes" not in one["said"]:
        found.append(one["said"])
    if saved is None or step_of(saved) != one["step"] or state(run)["synthrad"]["images_seen"] != one["images"]:
        found.append(f"saved {saved}")
    if in_child(fit, command(real, run)) != 0 or not same(state(run), state(whole)):
        found.append("the resumed fit ends otherwise")
    return found


def state(run: Path):
    return torch.load(newest_valid(run), weights_only=True)


def same(a, b):
    """Weights, averages, both optimizers, counters and the random states of both ranks."""
    def equal(x, y):
        if isinstance(x, torch.Tensor):
            return torch.equal(x, y)
        if isinstance(x, dict):
            return x.keys() == y.keys() and all(equal(x[k], y[k]) for k in x)
        return len(x) == len(y) and all(map(equal, x, y)) if isinstance(x, list | tuple) else x == y

    parts = ("state_dict", "optimizer_states", "synthrad", "global_step")
    return all(equal(a[k], b[k]) for k in parts) and equal(a["callbacks"]["RandomState"], b["callbacks"]["RandomState"])


@forks
def test_a_signal_to_one_of_two(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path))
    real, whole = whole_fit(tmp_path)
    assert len(state(whole)["callbacks"]["RandomState"]["others"]) == 1
    assert not faults(real, whole, tmp_path / "run", signal.SIGTERM, 1, "between the nets")
