"""A second `synthrad sample` or `synthrad fit` of one folder is told who writes there, and changes nothing."""

import multiprocessing
import time

import pytest
from forks import forks
from tiny_generator import fit_command, sample_command

from synthrad.__main__ import main
from synthrad.generators.gan import StyleGAN2

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
