"""Handlers come and go with the training, and a signal is told with its name; resuming is tested in test_stops."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks.preemption import SIGNALS, Preemption, Watch, as_interrupt, interruptible
from synthrad.errors import RunError


@pytest.fixture(autouse=True)
def handlers():
    """Those that are there before; the test must leave them."""
    before = {n: signal.getsignal(n) for n in SIGNALS}
    yield before
    after = {n: signal.getsignal(n) for n in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before, "a handler stayed"


def trainer(world_size=1):
    return SimpleNamespace(callbacks=[], world_size=world_size, global_step=17)


def end_of_batch(callback, world_size=1):
    callback.on_train_batch_end(trainer(world_size), SimpleNamespace(device="cpu"), None, None, 0)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
def test_a_signal_is_told_at_the_end_of_the_batch_and_not_before(handlers, number):
    callback = Preemption()
    callback.on_train_start(trainer(), None)
    end_of_batch(callback)
    os.kill(os.getpid(), number)
    assert callback.received == number
    message = f"stopped by {number.name} at step 17; nothing keeps checkpoints here. The same command resumes."
    with pytest.raises(RunError) as e:
        end_of_batch(callback)
    assert str(e.value) == message and {n: signal.getsignal(n) for n in SIGNALS} == handlers


def test_a_second_ctrl_c_stops_at_once_and_a_second_sigterm_waits():
    callback = Preemption()
    callback.on_train_start(trainer(), None)
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    callback.on_exception(trainer(), None, KeyboardInterrupt())


def test_handlers_are_put_back_at_the_end_and_after_an_error(handlers):
    for ends in (lambda c: c.on_train_end(trainer(), None), lambda c: c.on_exception(trainer(), None, ValueError())):
        callback = Preemption()
        callback.on_train_start(trainer(), None)
        assert {signal.getsignal(n) for n in SIGNALS} == {callback._note}
        ends(callback)
        assert {n: signal.getsignal(n) for n in SIGNALS} == handlers
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ends(callback)  # once more: what another has set since is left alone
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.signal(signal.SIGTERM, handlers[signal.SIGTERM])


def test_a_signal_after_the_last_batch_stops_too_and_the_next_training_knows_nothing_of_it():
    callback = Preemption()
    callback.on_train_start(trainer(), None)
    os.kill(os.getpid(), signal.SIGUSR1)
    with pytest.raises(RunError, match="stopped by SIGUSR1 at step 17"):
        callback.on_train_end(trainer(), None)
    callback.on_train_start(trainer(), None)
    end_of_batch(callback)
    callback.on_train_end(trainer(), None)


def test_a_training_in_another_thread_has_no_handlers_and_runs(handlers):
    callback, faults = Preemption(), []

    def train():
        try:
            callback.on_train_start(trainer(), None)
            end_of_batch(callback)
            callback.on_train_end(trainer(), None)
        except BaseException as e:
            faults.append(e)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not faults and {n: signal.getsignal(n) for n in SIGNALS} == handlers


def test_a_signal_to_another_rank_stops_this_one(monkeypatch):
    told = []

    def all_reduce(flags, op):
        told.append((flags.tolist(), op))
        flags.fill_(int(signal.SIGTERM))

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    with pytest.raises(RunError, match="stopped by SIGTERM"):
        end_of_batch(Preemption(), world_size=2)
    assert told == [([0], torch.distributed.ReduceOp.MAX)]


def test_exits_of_lightning_become_interrupts_and_ctrl_c_works_again():
    with pytest.raises(SystemExit) as by_hand:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemExit(1)  # noqa: B904 (as Lightning does)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for plain in (SystemExit(0), SystemExit("usage")):
            assert as_interrupt(plain) is plain and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        for error in (SIGTERMException(), by_hand.value):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            assert isinstance(as_interrupt(error), KeyboardInterrupt)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


class Slow(Callback):
    """Gets ready for a while, and a signal comes meanwhile."""

    def __init__(self, number):
        self.number, self.reached = number, False

    def on_train_start(self, trainer, pl_module):
        os.kill(os.getpid(), self.number)
        self.reached = True


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
def test_a_signal_before_the_first_step_stops_at_once(handlers, number, tmp_path):
    preemption, slow = Preemption(), Slow(number)
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, callbacks=[Watch(preemption), slow, preemption])
    with pytest.raises(RunError, match=f"stopped by {number.name} before the first step: nothing is lost. The same command resumes."):
        trainer.fit(BoringModel())
    assert not slow.reached and trainer.global_step == 0


def test_with_a_watch_a_signal_still_waits_for_the_end_of_the_batch(handlers):
    callback = Preemption()
    Watch(callback).on_train_start(trainer(), None)
    callback.on_train_start(trainer(), None)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RunError, match="at step 17"):
        end_of_batch(callback)
    assert {n: signal.getsignal(n) for n in SIGNALS} == handlers


def test_the_command_line_watches_before_any_callback_of_the_config(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(Trainer, "fit", lambda self, *_, **__: found.extend(self.callbacks))
    make(tmp_path / "real")
    assert main([*fit_command(tmp_path / "real", tmp_path / "run"), "--trainer.callbacks+=synthrad.callbacks.adherence.Adherence"]) == 0
    kinds = [type(c).__name__ for c in found]
    assert kinds[0] == "Watch" and kinds.index("Adherence") < kinds.index("Preemption")
    assert found[0].preemption is found[kinds.index("Preemption")]
    found.clear()
    one = [a for a in fit_command(tmp_path / "real", tmp_path / "other") if "callbacks" not in a]
    assert main([*one, "--trainer.callbacks=synthrad.callbacks.image_grid.ImageGrid"]) == 0
    assert [type(c).__name__ for c in found][:2] == ["Watch", "ImageGrid"]


@pytest.mark.parametrize("left", [SIGTERMException(), SystemExit(3)])
def test_a_bare_exit_of_a_signal_is_an_interrupt_and_any_other_exit_is_itself(left):
    with pytest.raises(KeyboardInterrupt if isinstance(left, SIGTERMException) else SystemExit), interruptible():
        raise left
