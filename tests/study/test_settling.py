"""`precision: auto` is settled when a run begins, and its folder keeps it; runs from before there was `auto` keep 32-true."""

import json

import pytest
import yaml
from described import SPEC

from synthrad.callbacks import precision
from synthrad.study.description import Study
from synthrad.study.settling import settled, told


@pytest.fixture(autouse=True)
def pays(monkeypatch):
    monkeypatch.setattr(precision, "paying_precision", lambda accelerator="auto": "bf16-mixed")


def write(study, folder):
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(json.loads(study.model_dump_json())))


def of(study):
    return study.tasks["t"].precision


def test_auto_is_what_pays_here_and_a_named_one_stays():
    study = Study.model_validate(SPEC)
    assert of(study) == "auto" and of(settled(study)) == "bf16-mixed" and of(study) == "auto"
    assert told(study, settled(study)) == ["task t: precision bf16-mixed (precision: auto)"]
    named = Study.model_validate({**SPEC, "tasks": {"t": {**SPEC["tasks"]["t"], "precision": "32-true"}}})
    assert settled(named) is named and told(named, named) == []


def test_a_run_keeps_what_it_began_in(tmp_path, monkeypatch):
    study = Study.model_validate(SPEC)
    write(settled(study, tmp_path / "run"), tmp_path / "run")
    monkeypatch.setattr(precision, "paying_precision", lambda accelerator="auto": "32-true")  # it goes on elsewhere
    assert of(settled(study, tmp_path / "run")) == "bf16-mixed" and of(settled(study, tmp_path / "other")) == "32-true"


def test_a_run_from_before_keeps_its_float32_and_its_hash(tmp_path):
    before = Study.model_validate({**SPEC, "tasks": {"t": {**SPEC["tasks"]["t"], "precision": "32-true"}}})
    write(before, tmp_path)
    now = settled(Study.model_validate(SPEC), tmp_path)
    assert now == before and now.said() == before.said()


def test_a_machine_that_submits_says_nothing_of_those_that_compute():
    assert of(settled(Study.model_validate(SPEC), on_cluster=True)) == "32-true"
