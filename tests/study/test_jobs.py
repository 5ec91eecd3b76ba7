"""Jobs of a study, as far as test_command does not run them."""

import json

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
