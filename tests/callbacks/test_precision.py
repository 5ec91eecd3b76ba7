import lightning as L
import pytest
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks.precision import check_precision
from synthrad.errors import InputError


@pytest.mark.filterwarnings("ignore:.*fp16 is not supported.*")
def test_float16_on_a_cpu_is_refused_before_the_first_step(tmp_path, capfd):
    make(tmp_path / "real")
    assert main([*fit_command(tmp_path / "real", tmp_path / "run"), "--trainer.precision=16-mixed"]) == 2
    said = capfd.readouterr().err
    assert "trainer.precision: found 16-mixed on a cpu; expected bf16-mixed or 32-true" in said and "Repair: use bf16-mixed" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("asked", [None, "32-true", "bf16-mixed", 32, "64-true"])
def test_what_a_cpu_has(asked):
    options = {} if asked is None else {"precision": asked}
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **options)
    check_precision(asked, trainer)
    with pytest.raises(InputError, match="found 16 on a cpu"):
        check_precision(16, trainer)
