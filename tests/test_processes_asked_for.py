"""As many processes train as devices were asked for or found, or none does."""

import pytest
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main

DDP = "--trainer.strategy=ddp_find_unused_parameters_true"


@pytest.fixture
def one_task(monkeypatch):
    """A SLURM job of one task."""
    for name, value in {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
                        "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "1", "SLURM_JOB_NODELIST": "localhost"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("more", "nodes", "devices"), [(["--trainer.devices=2"], 1, 2), (["--trainer.num_nodes=2"], 2, 1)])
def test_fewer_processes_than_asked_for(one_task, tmp_path, capfd, more, nodes, devices):
    make(tmp_path / "real")
    assert main([*fit_command(tmp_path / "real", tmp_path / "run"), DDP, *more]) == 2
    said = capfd.readouterr().err
    assert f"found 1 process(es); expected {nodes} node(s) x {devices} device(s)" in said and "Repair: start one task a device" in said
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_devices_that_were_found_count_as_asked_for(one_task, tmp_path, monkeypatch, capfd):
    """devices=auto on a machine with two."""
    monkeypatch.setattr("lightning.pytorch.accelerators.cpu.CPUAccelerator.auto_device_count", lambda *_: 2)
    make(tmp_path / "real")
    assert main([*fit_command(tmp_path / "real", tmp_path / "run"), DDP]) == 2
    assert "found 1 process(es); expected 1 node(s) x 2 device(s)" in capfd.readouterr().err
