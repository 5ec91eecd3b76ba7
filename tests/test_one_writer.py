"""A second `synthrad sample` or `synthrad fit` of one folder is told who writes there, and changes nothing."""

import multiprocessing
import os
import time

import pytest
from forks import forks, in_ranks
from tiny_generator import fit_command, sample_command

from synthrad.__main__ import main
from synthrad.generators.gan import StyleGAN2
from synthrad.locking import locked

pytestmark = forks


def waiting(owner, hook, begun, argv):
    """In a fork: the command, which stays in a call of a hook until it is ended."""

    def wait(*_, **__):
        begun.write_text("x")
        time.sleep(600)

    setattr(owner, hook, wait)
    main(argv)


@pytest.mark.parametrize("verb", ["sample", "fit"])
def test_second(trained, tmp_path, monkeypatch, capfd, verb):
    real, checkpoint = trained
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(real.parent))
    out = tmp_path / "out"
    argv = sample_command(checkpoint, real, out) if verb == "sample" else fit_command(real, out)
    hook = "sample" if verb == "sample" else "training_step"
    child = multiprocessing.get_context("fork").Process(target=waiting, args=(StyleGAN2, hook, tmp_path / "begun", argv))
    child.start()
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "begun").exists():
            assert child.is_alive() and time.monotonic() < deadline
            time.sleep(0.05)
        before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if "tfevents" not in p.name}
        assert main(argv) == 1
        said = capfd.readouterr().err
        assert f"{verb}: another process (pid {child.pid}) is writing {out}" in said and "type the same command" in said
        if verb == "sample":
            assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
        else:
            assert not (out / "checkpoints").exists()
    finally:
        child.kill()
        child.join()
    assert main(argv) == 0  # a lock ends with its process


def test_all_processes_of_a_second_fit_end_with_the_first(trained, tmp_path, monkeypatch, capfd):
    """As torchrun and srun start them: they would wait for the first one."""
    real, _ = trained
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(real.parent))
    argv = [*fit_command(real, tmp_path / "out"), "--trainer.devices=2", "--trainer.strategy=ddp_find_unused_parameters_true"]
    with locked(tmp_path / "out" / ".fit.lock", "a test"):
        begun = time.monotonic()
        assert in_ranks(main, argv) == [1, 1]
        assert time.monotonic() - begun < 30
    said = capfd.readouterr().err
    assert said.count("synthrad fit:") == 1 and f"another process (pid {os.getpid()}) is writing" in said and "Traceback" not in said
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".fit.lock"]  # nothing was written
    assert in_ranks(main, argv) == [0, 0]


def test_all_processes_of_a_fit_that_cannot_write_end(trained, tmp_path, monkeypatch, capfd):
    real, _ = trained
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(real.parent))
    (tmp_path / "file").touch()
    argv = [*fit_command(real, tmp_path / "file" / "out"), "--trainer.devices=2", "--trainer.strategy=ddp_find_unused_parameters_true"]
    begun = time.monotonic()
    assert in_ranks(main, argv) == [1, 1]
    assert time.monotonic() - begun < 30 and "Not a directory" in capfd.readouterr().err
