"""A checkpoint of another dataset or another model: one clear message, exit code 2, nothing written."""

from tiny_generator import fit_command, sample_command
from tiny_set import make

from synthrad.__main__ import main


def told(capfd, *words):
    err = capfd.readouterr().err
    assert all(w in err for w in words), err
    assert "Traceback" not in err


def task_command(real, run, *more):
    return ["fit", "--model=ClassificationTask", "--model.net=TimmNet", "--model.net.name=test_resnet", "--data=FusionDataModule",
            f"--data.manifest={real}", "--data.size=[32,32]", "--data.batch_size=2", "--trainer.max_steps=1",
            "--trainer.accelerator=cpu", f"--trainer.default_root_dir={run}", *more]  # fmt: skip


def test_a_generator_of_another_dataset(trained, tmp_path, capfd):
    real, checkpoint = trained
    make(tmp_path / "other", name="another")
    assert main([*fit_command(tmp_path / "other", tmp_path / "run"), f"--ckpt_path={checkpoint}"]) == 2
    told(capfd, str(checkpoint), "another dataset", "id tiny", "id another", "Repair")
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert main(sample_command(checkpoint, tmp_path / "other", tmp_path / "set")) == 2
    told(capfd, str(checkpoint), "id", "tiny", "another", "Repair")
    assert not (tmp_path / "set").exists()


def test_a_task_of_another_dataset_or_another_model(trained, tmp_path, capfd):
    real, generator = trained
    assert main(task_command(real, tmp_path / "run")) == 0
    checkpoint = max((tmp_path / "run" / "checkpoints").glob("last-*.ckpt"))
    make(tmp_path / "other", name="another")
    capfd.readouterr()
    assert main(task_command(tmp_path / "other", tmp_path / "b", f"--ckpt_path={checkpoint}")) == 2
    told(capfd, str(checkpoint), "another dataset", "id tiny", "id another")
    assert main(task_command(real, tmp_path / "c", f"--ckpt_path={generator}")) == 2
    told(capfd, str(generator), "another model", "Repair")
    other_net = [a.replace("test_resnet", "test_vit") for a in task_command(real, tmp_path / "d", f"--ckpt_path={checkpoint}")]
    assert main(other_net) == 2
    told(capfd, str(checkpoint), "another model", "Repair")
    assert main([*fit_command(real, tmp_path / "e"), f"--ckpt_path={checkpoint}"]) == 2
    told(capfd, "synthrad generator", "checkpoint")
    torn = tmp_path / "torn.ckpt"
    torn.write_bytes(checkpoint.read_bytes()[:1000])
    assert main(task_command(real, tmp_path / "f", f"--ckpt_path={torn}")) == 2
    told(capfd, str(torn), "cannot be read")
    assert main(task_command(real, tmp_path / "f", f"--ckpt_path={tmp_path / 'none.ckpt'}")) == 2
    told(capfd, "none.ckpt", "no such file")
    assert not list(tmp_path.glob("[a-f]/checkpoints/*"))
