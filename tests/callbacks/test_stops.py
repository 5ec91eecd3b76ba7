"""A signal at an awkward moment: nothing is lost, above all no validation, and nobody takes the fit for finished."""

import os
import signal

import pytest
import tiny_fit
import torch

from synthrad.callbacks import DurableCheckpoint, newest_valid
from synthrad.callbacks.durable_checkpoint import step_of
from synthrad.callbacks.preemption import as_interrupt
from synthrad.errors import RunError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny_fit.fit(tmp_path_factory.mktemp("whole"))


def best_of(trainer):
    keeper = next(c for c in trainer.callbacks if isinstance(c, DurableCheckpoint))
    return keeper.best_step, keeper.best_score


def signal_at(monkeypatch, hook, when, number=signal.SIGTERM):
    """Send ourselves a signal in call number `when` of a hook of the tiny model."""
    original, calls = getattr(tiny_fit.Noisy, hook), [0]

    def wrapped(self, *args):
        calls[0] += 1
        if calls[0] == when:
            os.kill(os.getpid(), number)
        return original(self, *args)

    monkeypatch.setattr(tiny_fit.Noisy, hook, wrapped)


@pytest.mark.parametrize(
    ("hook", "when", "saved"),
    [
        ("training_step", 3, 3),
        ("training_step", 4, 4),  # a validation follows at this step, and it is the best one
        ("training_step", 40, 40),  # the last step
        ("validation_step", 1, 5),
        ("validation_step", 20, 40),  # after the last batch: the next fit of the process must not start
    ],
)
def test_resume_after_a_signal_loses_no_validation(whole, tmp_path, monkeypatch, hook, when, saved):
    with monkeypatch.context() as patch:
        signal_at(patch, hook, when)
        with pytest.raises(RunError, match="SIGTERM.*The same command resumes"):
            tiny_fit.fit(tmp_path)
    assert step_of(newest_valid(tmp_path)) == saved
    model, trainer = tiny_fit.fit(tmp_path)
    assert best_of(trainer) == best_of(whole[1])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole[0].parameters(), strict=True))
    assert step_of(newest_valid(tmp_path, "best")) == best_of(whole[1])[0]


def test_an_interrupt_before_training_is_told_from_other_exits(tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny_fit.Noisy, "configure_optimizers", interrupted)
    with pytest.raises(SystemExit) as e:  # Lightning's doing
        tiny_fit.fit(tmp_path)
    assert isinstance(as_interrupt(e.value), KeyboardInterrupt)
    other = SystemExit(2)
    assert as_interrupt(other) is other
