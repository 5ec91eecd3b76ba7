"""Summary lines: one a seed and metric, one a judged arm with its difference; they say nothing about the machine's folders."""

import importlib.util
import json
import platform
from dataclasses import replace
from pathlib import Path

import pytest
from fake_run import CLASSES, NET, SEEDS, STEPS, SUBJECTS, TASK, read_fake_run, write_fake_run

from synthrad.errors import InputError
from synthrad.measurements import Measurement
from synthrad.study.comparisons import Comparison, Endpoint, compare
from synthrad.study.report import ReportFacts, installed, processor
from synthrad.study.summary import summary_lines, write_summary

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "export_study.py"


@pytest.fixture(scope="module")
def facts(tmp_path_factory) -> ReportFacts:
    run = tmp_path_factory.mktemp("run")
    write_fake_run(run)
    read, end = read_fake_run(run), Endpoint(TASK, NET, "dice", classes=CLASSES[:1])
    controls = {a["arm"]: a["controls"] for a in read["arms"] if a["role"] == "adding" and not a["same_as"]}
    compared = compare(read["cases"], end, controls)
    fits = [{**f, "identity": f"hash-{f['arm']}"} for f in read["fits"]]
    subgroup = Measurement("dice", 0.5, task=TASK, net=NET, arm="matched", seed=0, class_name="macro", subject="s1")
    return ReportFacts("fake", end, compared, measurements=[*read["measurements"], subgroup, *compared.measurements()], fits=fits,
                       versions=installed(), cpu=processor(), config_hash="0123abcd")  # fmt: skip


@pytest.fixture(scope="module")
def export():
    spec = importlib.util.spec_from_file_location("export_study", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_why_there_is_no_verdict_and_what_longer_training_did(facts):
    longer = Comparison("real_only_longer", "real_only", "dice", 0.05, 0.03, 0.07, None, None, 5, 40, "downstream seeds", TASK, NET)
    silent = replace(facts, comparisons=replace(facts.comparisons, undertrained=True, longer=longer))
    *verdicts, last = [x for x in summary_lines(silent) if x["seed"] is None]
    assert {x["why_no_verdict"] for x in verdicts} == {"undertrained"}
    assert (last["arm"], last["value"], last["steps"], last["seeds"]) == ("real_only_longer", 0.05, 2 * STEPS, 5)
    assert {x["why_no_verdict"] for x in summary_lines(facts) if x["seed"] is None} == {""}


def test_a_line_a_seed_and_metric(facts):
    lines = [x for x in summary_lines(facts) if x["seed"] is not None]
    keys = [(x["task"], x["net"], x["arm"], x["seed"], x["metric"], x["class_name"]) for x in lines]
    assert len(set(keys)) == len(keys) == 10 * SEEDS * 2  # macro and the endpoint's class; not the other classes
    assert {x["class_name"] for x in lines} == {"macro", "caries"}
    one = next(x for x in lines if x["arm"] == "matched" and x["seed"] == 3)
    assert (one["study"], one["steps"], one["config_hash"]) == ("fake", STEPS, "hash-matched")
    assert one["versions"]["Python"] == platform.python_version() and one["cpu"] and one["mechanics"] is False


def test_a_line_a_judged_arm(facts):
    lines = {x["arm"]: x for x in summary_lines(facts) if x["seed"] is None}
    assert set(lines) == {"matched", "matched_half", "balanced"}
    v, line = facts.comparisons["matched"], lines["matched"]
    (against,) = [c for c in v.comparisons if c.reference == "real_only"]
    assert (line["value"], line["low"], line["high"]) == (against.difference, against.low, against.high)
    assert (line["metric"], line["n"], line["seeds"], line["reference"]) == ("dice_difference", SUBJECTS, SEEDS, "real_only")
    assert (line["verdict"], line["detectable_90"], line["classes"]) == ("gain", v.detectable_90, ["caries"])
    assert {x["class_name"] for x in lines.values()} == {"caries"}
    assert line["hardest"]["reference"] == "matched_augmented" and lines["balanced"]["verdict"] == "harm"


def test_undefined_is_null(facts, tmp_path):
    broken = Measurement("dice", float("nan"), task=TASK, net=NET, arm="matched", seed=0, class_name="macro", note="no reference")
    path = write_summary(tmp_path, replace(facts, measurements=[broken]))
    first = json.loads(path.read_text().splitlines()[0])
    assert first["value"] is None and first["note"] == "no reference"


def test_export_replaces_the_lines_of_that_study(facts, tmp_path, export, capsys):
    results = tmp_path / "results"
    results.mkdir()
    (results / "study_fake.jsonl").write_text("old\n")
    (results / "inference.jsonl").write_text("other\n")
    write_summary(tmp_path, facts)
    path = export.export(tmp_path, results)
    assert [json.loads(x) for x in path.read_text().splitlines()] == summary_lines(facts)
    assert (results / "inference.jsonl").read_text() == "other\n"
    assert str(tmp_path) not in path.read_text()
    assert "study_fake.jsonl" in capsys.readouterr().out


def test_checks_of_the_generators_are_exported_without_their_draws(facts, tmp_path, export, capsys):
    write_summary(tmp_path, facts)
    fit = tmp_path / "sources" / "gan" / "generator-1"
    (fit / "checkpoints").mkdir(parents=True)
    (fit.parent / "generator.json").write_text(json.dumps({"checkpoint": "sources/gan/generator-1/checkpoints/last.ckpt"}))
    (fit / "fidelity.jsonl").write_text("".join(json.dumps({"images": n, "kid": 1 / n, "kid_draws": [1, 2]}) + "\n" for n in (10, 20)))
    (fit / "adherence.jsonl").write_text(json.dumps({"images": 10, "auroc": None}) + "\n")
    path = export.export(tmp_path, tmp_path / "results")
    lines = [json.loads(x) for x in (path.parent / "curves_fake.jsonl").read_text().splitlines()]
    assert [(x["check"], x["source"], x["images"]) for x in lines] == [("fidelity", "gan", 10), ("fidelity", "gan", 20),
                                                                     ("adherence", "gan", 10)]  # fmt: skip
    assert all(x["study"] == "fake" and x["config_hash"] == "1" and x["report"]["cpu"] and "kid_draws" not in x for x in lines)
    assert "curves_fake.jsonl: 3 lines" in capsys.readouterr().out
    (fit.parent / "generator.json").unlink()  # imported this time
    export.export(tmp_path, tmp_path / "results")
    assert not (path.parent / "curves_fake.jsonl").exists()


@pytest.mark.parametrize("text", ["/home/someone/data", "read from /data/x.csv", "C:\\Users\\x", f"on {platform.node()}, cpu"])
def test_what_names_the_machine_is_not_exported(facts, tmp_path, export, text):
    if not platform.node():
        pytest.skip("a machine without a name")
    bad = Measurement("dice", 0.5, task=TASK, net=NET, arm="matched", seed=0, class_name="macro", note=text)
    write_summary(tmp_path, replace(facts, measurements=[bad]))
    with pytest.raises(InputError, match="line 1"):
        export.export(tmp_path, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_an_unfinished_study_is_one_message(tmp_path, export, capsys):
    assert export.main([str(tmp_path)]) == 2
    assert "synthrad study report" in capsys.readouterr().err


def test_the_curves_of_a_fit_alone(export, tmp_path):
    run, results = tmp_path / "lungs_64", tmp_path / "results"
    run.mkdir()
    results.mkdir()
    (run / "fidelity.jsonl").write_text('{"images": 8, "kid": 2.0, "kid_draws": [1, 2]}\n{"images": 16, "kid": 1.0, "kid_draws": []}\n')
    (run / "reconstruction.jsonl").write_text('{"images": 16, "psnr": 30.0}\n')
    path = export.export(run, results)
    lines = [json.loads(x) for x in path.read_text().splitlines()]
    assert path.name == "curves_lungs_64.jsonl"
    assert [(x["check"], x["images"], x["fit"]) for x in lines] == [("fidelity", 8, "lungs_64"), ("fidelity", 16, "lungs_64"),
                                                                   ("reconstruction", 16, "lungs_64")]
    assert "kid_draws" not in lines[0] and lines[0]["report"]["versions"]["synthrad"]
    (run / "fidelity.jsonl").write_text('{"images": 8, "why": "/home/someone/x"}\n')
    with pytest.raises(InputError, match="absolute path"):
        export.export(run, results)
