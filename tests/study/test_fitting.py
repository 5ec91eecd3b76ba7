"""fit_and_test around its training: what counts as done, what is cleared, what is put back. Fits themselves: tests/tasks."""

import json
import logging
from types import SimpleNamespace

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from synthrad.errors import InputError, RunError
from synthrad.study import fitting
from synthrad.study.fitting import CHATTY, finished, fit_and_test

FILES = ("fit.json", "cases.parquet", "timing.jsonl", "events.out.tfevents.1.host", "checkpoints/last-000000001.ckpt")
KEPT = ("metrics.csv", "notes.txt")


def call(folder, steps=5, val_every=2, **more):
    return fit_and_test(SimpleNamespace(trainer=1), SimpleNamespace(trainer=1), folder, steps, val_every, 0, **more)


def write(folder, *names, text="{}"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def fits(monkeypatch):
    """The arguments of every training that would be run, and in `does` what happens in it."""
    made = SimpleNamespace(calls=[], does=lambda: {"steps": 5})

    def fit(task, datamodule, folder, steps, val_every, *rest):
        made.calls.append((folder, steps, val_every, *rest))
        return made.does()

    monkeypatch.setattr(fitting, "_fit", fit)
    monkeypatch.setattr(fitting, "gc", SimpleNamespace(collect=lambda: 0))  # half a second each
    return made


def test_done_is_both_files_under_the_same_identity(tmp_path):
    facts = {"steps": 5, "identity": "one"}
    assert finished(tmp_path / "missing") is None
    write(tmp_path, "fit.json", text=json.dumps(facts))
    assert finished(tmp_path, "one") is None  # a kill before the cases
    write(tmp_path, "cases.parquet")
    assert finished(tmp_path, "one") == facts == finished(str(tmp_path), "one")
    assert finished(tmp_path, "two") is None and finished(tmp_path) is None


def test_what_is_done_is_not_done_again_whatever_is_asked_for(tmp_path, fits):
    write(tmp_path, "cases.parquet", "fit.json", text=json.dumps({"identity": "one", "best_step": 3}))
    assert call(tmp_path, steps=0, identity="one") == {"identity": "one", "best_step": 3}
    assert not fits.calls and not (tmp_path / "identity").exists()


@pytest.mark.parametrize(("steps", "val_every"), [(0, 2), (-1, 2), (5, 0)])
def test_steps_below_one_are_named_and_leave_no_folder(tmp_path, fits, steps, val_every):
    with pytest.raises(InputError) as e:
        call(tmp_path / "run", steps, val_every)
    assert str(e.value) == f"steps, val_every: found {steps}, {val_every}; expected 1 or more each."
    assert not fits.calls and not (tmp_path / "run").exists()


@pytest.mark.parametrize("before", ["other", None], ids=["another identity", "no identity"])
def test_another_identity_starts_afresh_and_keeps_what_is_not_its_own(tmp_path, fits, before):
    write(tmp_path, *FILES, *KEPT)
    if before is not None:
        write(tmp_path, "identity", text=before)
    call(tmp_path, identity="one")
    assert not any((tmp_path / name).exists() for name in FILES) and all((tmp_path / name).is_file() for name in KEPT)
    assert (tmp_path / "identity").read_text() == "one" and len(fits.calls) == 1


def test_the_same_identity_goes_on_with_what_is_there(tmp_path, fits):
    write(tmp_path, *FILES[1:], *KEPT)
    write(tmp_path, "identity", text="one")
    call(tmp_path, identity="one")
    assert all((tmp_path / name).is_file() for name in (*FILES[1:], *KEPT))


def test_a_validation_comes_at_the_last_step_at_the_latest(tmp_path, fits):
    call(tmp_path / "a", steps=5, val_every=50, names={"arm": "x"}, identity="i", precision="bf16-mixed", keep_checkpoint=False)
    call(tmp_path / "b", steps=50, val_every=5)
    machine = {"accelerator": "auto", "precision": "bf16-mixed"}
    assert fits.calls[0] == (tmp_path / "a", 5, 5, 0, {"arm": "x"}, "i", (), machine, 120.0, False)
    assert fits.calls[1][1:3] == (50, 5) and fits.calls[1][4] == {}


@pytest.mark.filterwarnings("ignore:.*fp16 is not supported.*")
def test_float16_is_refused_on_a_cpu(tmp_path):
    task, data = SimpleNamespace(monitor=None, trainer=None), SimpleNamespace(trainer=None)
    with pytest.raises(InputError, match="trainer.precision: found 16-mixed on a cpu"):
        fit_and_test(task, data, tmp_path, 2, 1, 0, accelerator="cpu", precision="16-mixed")


@pytest.mark.parametrize("error", [None, RunError("stopped"), SystemExit(3)], ids=["well", "stopped", "exit"])
def test_however_it_ends_parts_let_go_of_each_other_and_logs_speak_again(tmp_path, fits, error):
    task, data = SimpleNamespace(trainer=1), SimpleNamespace(trainer=1)
    loggers = [logging.getLogger(name) for name in CHATTY]
    before = [log.level for log in loggers]
    for k, log in enumerate(loggers):
        log.setLevel(logging.INFO + k)
    seen = []

    def does():
        seen.extend(log.level for log in loggers)
        if error is not None:
            raise error
        return {}

    fits.does = does
    try:
        if error is None:
            fit_and_test(task, data, tmp_path, 5, 2, 0)
        else:
            with pytest.raises(type(error)) as e:
                fit_and_test(task, data, tmp_path, 5, 2, 0)
            assert e.value is error  # an exit that no signal made stays itself
        assert seen == [logging.ERROR] * len(CHATTY)
        assert [log.level for log in loggers] == [logging.INFO + k for k in range(len(CHATTY))]
    finally:
        for log, level in zip(loggers, before, strict=True):
            log.setLevel(level)
    assert task.trainer is None and data.trainer is None


def test_an_exit_that_a_signal_made_is_an_interrupt(tmp_path, fits):
    def does():
        raise SIGTERMException

    fits.does = does
    with pytest.raises(KeyboardInterrupt):
        call(tmp_path)
