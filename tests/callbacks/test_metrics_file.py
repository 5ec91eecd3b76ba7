import csv
import warnings

from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.callbacks.metrics_file import ResumedCSVLogger


def log(folder, lines):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Experiment logs directory")
        logger = ResumedCSVLogger(folder, name="", version="")
        for step, metrics in lines:
            logger.log_metrics(metrics, step)
        logger.save()
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_lines_of_before_stay_and_those_that_are_done_again_do_not(tmp_path):
    first = log(tmp_path, [(1, {"loss": 3.0}), (2, {"loss": 2.0}), (3, {"loss": 1.5})])
    assert [x["step"] for x in first] == ["1", "2", "3"]
    again = log(tmp_path, [(3, {"loss": 1.0, "kid": 5.0}), (4, {"loss": 0.5})])  # killed after 3, resumed from 2
    assert [(x["step"], x["loss"], x["kid"]) for x in again] == [("1", "3.0", ""), ("2", "2.0", ""), ("3", "1.0", "5.0"), ("4", "0.5", "")]
    assert [x["step"] for x in log(tmp_path, [(0, {"loss": 9.0})])] == ["0"]  # a fit that starts anew


def test_half_a_line_and_a_foreign_file(tmp_path):
    (tmp_path / "metrics.csv").write_text("loss,step\n1.0,1\n0.5")  # a kill while it was written
    assert [x["step"] for x in log(tmp_path, [(2, {"loss": 0.4})])] == ["1", "2"]
    (tmp_path / "metrics.csv").write_text("something else\n")
    assert [x["step"] for x in log(tmp_path, [(2, {"loss": 0.4})])] == ["2"]


def test_a_resumed_fit_has_the_lines_of_an_uninterrupted_one(tmp_path):
    make(tmp_path / "real")

    def lines(folder):
        with open(tmp_path / folder / "metrics.csv", newline="") as file:
            return [x["step"] for x in csv.DictReader(file)]

    command = lambda run, images: [*fit_command(tmp_path / "real", tmp_path / run, images=images), "--trainer.log_every_n_steps=1"]  # noqa: E731
    assert main(command("whole", 24)) == 0
    assert main(command("parts", 12)) == 0
    assert main([*command("parts", 24), f"--ckpt_path={newest_valid(tmp_path / 'parts')}"]) == 0
    assert lines("parts") == lines("whole") and len(lines("whole")) > 4
