"""Jobs of a study, as far as test_command does not run them."""

import json

from synthrad.study import failures, jobs
from synthrad.study.jobs import main
from synthrad.study.pools import pools_of


def test_pools_are_found_relative_to_the_run_folder_or_absolute(tmp_path):
    (tmp_path / "sources" / "gan").mkdir(parents=True)
    names = ["sources/gan/pool-1/draw0", str(tmp_path / "elsewhere")]
    (tmp_path / "sources/gan/pool.json").write_text(json.dumps({"manifests": names}))
    assert pools_of(tmp_path, "gan") == [tmp_path / "sources/gan/pool-1/draw0", tmp_path / "elsewhere"]


def test_a_failed_job_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 1
    assert capsys.readouterr().err.startswith("synthrad study, job report: ")


def test_an_error_of_a_library_is_one_line_and_a_file(tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("Given input size: (512x0x2)\nCalculated output size too small")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "fit", broken)
    assert main(["fit", "a/b/c"]) == 1
    said = capsys.readouterr().err
    assert "job fit a/b/c: RuntimeError: Given input size: (512x0x2) Calculated" in said and "Traceback" not in said
    assert "in broken" in (tmp_path / "failed" / "fit-a-b-c.txt").read_text()
    messages, bad_input = failures.read(tmp_path)
    assert len(messages) == 1 and str(tmp_path / "failed" / "fit-a-b-c.txt") in messages[0] and not bad_input
