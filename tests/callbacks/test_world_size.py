"""A job with fewer or more processes than were asked for is refused before anything waits for the others."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks.world_size import WorldSize, check_tasks, cluster_plugins, count_of
from synthrad.errors import InputError, RunError


def slurm(nodes, tasks, per_node=None, name="fit"):
    more = {} if per_node is None else {"SLURM_NTASKS_PER_NODE": str(per_node)}
    return {"SLURM_NNODES": str(nodes), "SLURM_NTASKS": str(tasks), "SLURM_JOB_NAME": name, "SLURM_JOB_ID": "7", "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0", "SLURM_NODEID": "0", **more}


@pytest.fixture
def environ(monkeypatch):
    def change(**values):
        for key, value in values.items():
            monkeypatch.setenv(key, value)
    return change


@pytest.mark.parametrize(("devices", "count"), [(2, 2), ("2", 2), ([0, 3], 2), ("0,3", 2), ("1,", 1), ("auto", None), (-1, None), ("-1", None),
                                                (None, None), (0, None)])
def test_devices_are_counted_as_lightning_takes_them(devices, count):
    assert count_of(devices) == count


@pytest.mark.parametrize("environ", [
    slurm(2, 4, 2), {}, slurm(1, 1, name="bash"), slurm(3, 3, 1, name="interactive"),
    {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4", **slurm(2, 2, 1)},  # torchrun, one on each node
], ids=["srun", "no scheduler", "bash", "interactive", "torchrun under srun"])  # fmt: skip
def test_what_was_asked_for_passes(environ):
    check_tasks(2, 2, environ)


@pytest.mark.parametrize(("environ", "found"), [
    (slurm(1, 1), "SLURM_NTASKS: found 1 process\\(es\\); expected 2 node\\(s\\) x 2 device\\(s\\) = 4"),
    (slurm(2, 2, 1), r"found 2 process\(es\)"),
    (slurm(4, 8, 2), r"found 8 process\(es\)"),
    (slurm(1, 4, 4), "SLURM_NNODES: found 1 node\\(s\\); expected 2, as trainer.num_nodes says"),
    (slurm(2, 4), "SLURM_NTASKS_PER_NODE: found nothing; expected 2"),
    (slurm(2, 4, 3), "SLURM_NTASKS_PER_NODE: found 3"),
    ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2"}, "torchrun: found 2 process.*\n.*torchrun --nnodes=2 --nproc-per-node=2"),
], ids=["one task", "a task a node", "too many", "too few nodes", "no tasks a node", "other tasks a node", "torchrun"])  # fmt: skip
def test_another_number_is_refused(environ, found):
    with pytest.raises(InputError, match=found) as e:
        check_tasks(2, 2, environ)
    if "TORCHELASTIC_RUN_ID" not in environ:
        assert "srun --nodes=2 --ntasks=4 --ntasks-per-node=2" in str(e.value)


def test_the_command_line_says_it_before_it_waits(tmp_path, environ, capfd):
    make(tmp_path / "real")
    command = fit_command(tmp_path / "real", tmp_path / "run")
    environ(**slurm(2, 2, 1))
    assert main(command) == 2  # one device on one node by default on the CPU, and srun started two
    assert "found 2 process(es); expected 1 node(s) x 1 device(s)" in capfd.readouterr().err
    environ(**slurm(1, 1))
    strategy = ["--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp_find_unused_parameters_true"]
    assert main([*command, *strategy]) == 2  # the second one never comes
    assert "found 1 process(es); expected 2 node(s) x 1 device(s)" in capfd.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_lightning_does_not_requeue_by_itself(environ):
    assert cluster_plugins() == []
    environ(**slurm(1, 1))
    (plugin,) = cluster_plugins()
    assert isinstance(plugin, SLURMEnvironment) and not plugin.auto_requeue
    environ(SLURM_JOB_NAME="bash")
    assert cluster_plugins() == []
    environ(SLURM_JOB_NAME="fit", TORCHELASTIC_RUN_ID="a")
    assert cluster_plugins() == []


def test_a_trainer_of_another_size_is_refused(tmp_path):
    made = Trainer(accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path)
    WorldSize(1, None).check(made)
    with pytest.raises(InputError, match=r"found 1 process\(es\); expected 1 node\(s\) x 2 device\(s\)"):
        WorldSize(1, 2).check(made)


def test_processes_that_resume_from_different_steps_are_refused(monkeypatch):
    trainer = SimpleNamespace(world_size=2, global_step=40)

    def other(step):
        return lambda steps, op: steps.copy_(torch.maximum(steps, torch.tensor([step, -step])))

    for step in (30, 50):
        monkeypatch.setattr(torch.distributed, "all_reduce", other(step))
        with pytest.raises(RunError, match=f"of step {min(step, 40)} and of step {max(step, 40)}"):
            WorldSize().on_train_start(trainer, SimpleNamespace(device="cpu"))
    monkeypatch.setattr(torch.distributed, "all_reduce", other(40))
    WorldSize().on_train_start(trainer, SimpleNamespace(device="cpu"))
