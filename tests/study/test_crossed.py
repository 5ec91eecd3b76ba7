"""Train on real, test on synthetic: kept weights, cases apart from those of real images, what is said where there are none."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from test_command import STUDY

from synthrad.cases import read_cases, write_cases
from synthrad.data.phantom import draw_dialled, write_phantoms
from synthrad.records import Manifest
from synthrad.study import crossed
from synthrad.study.crossed import CASES, MARK, Level, answer, identity_of, sample_of, table
from synthrad.study.one_fit import fit_seed
from synthrad.study.planning import make_plan, strategy_of
from synthrad.study.settling import settled
from synthrad.study.study_file import load_study
from synthrad.study.verdicts import Endpoint

KEY = "findings/resnet18/real_only"
END = Endpoint("findings", "resnet18", "auroc", classes=("caries",))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crossed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        real = write_phantoms(folder / "real", 48, (32, 64), 0, fractions=(0.4, 0.2, 0.1, 0.3))
        good = draw_dialled(real, folder / "good", 40, "good", 1)
        (folder / "tiny.yaml").write_text(yaml.safe_dump({**STUDY, "seeds": 2}))
        study = settled(load_study(folder / "tiny.yaml"))
        plan = make_plan(study, real.where(split="train", source="real"))
        for seed in range(2):
            fit_seed(study, "findings", "resnet18", plan["real_only"], strategy_of(study, plan["real_only"]), None, 4, seed, folder / KEY / f"seed{seed}", "id")
        answer(study, real, "findings", "resnet18", folder / KEY, "real_only", {"good": good}, identity_of("id", {"good": "p"}))
        yield folder, study, real, good


def told(folder, good="p"):
    graph = {"crossed": {KEY: identity_of("id", {"good": good})}, "study_file": "tiny.yaml"}
    cases = read_cases([folder / KEY / f"seed{s}" / "cases.parquet" for s in range(2)])
    alone = cases.assign(arm="only", probability=1 - cases["probability"])
    return crossed.crossed(folder, graph, pd.concat([cases, alone]), END, 2, "real_only", {"good": ["only"]}, {"findings": 1})


def test_the_reference_answers_every_synthetic_image_in_a_file_of_its_own(fitted):
    folder, _, real, good = fitted
    for seed in range(2):
        mine, own = (read_cases([folder / KEY / f"seed{seed}" / name]) for name in (CASES, "cases.parquet"))
        assert set(mine["external"]) == {"good"} and set(mine["image"]) == set(good.column("digest")) and mine["subject"].nunique() == 40
        assert not set(own["image"]) & set(mine["image"]) and set(own["external"]) == {""} and set(mine["seed"]) == {seed}
    assert list((folder / KEY / "seed0" / "checkpoints").glob("best-*")) and not list((folder / KEY / "seed0" / "checkpoints").glob("last-*"))


def test_the_table_has_both_directions_with_intervals(fitted):
    folder = fitted[0]
    (row,), notes = told(folder)
    assert (row.source, row.task, row.net, row.metric, notes) == ("good", "findings", "resnet18", "AUROC", [])
    assert row.on_synthetic.n == 40 and row.on_synthetic.low <= row.on_synthetic.value <= row.on_synthetic.high
    assert row.from_synthetic.value == pytest.approx(1 - row.on_real.value)  # the other arm says the opposite
    made = table([row])
    assert len(made.columns) == len(made.rows[0]) and "real to synthetic" in made.csv()
    assert table([crossed.Crossed("a", "t", "n", "Dice", Level(None, None, None, 3), "", None, row.on_real)]).rows[0][4:10] == (None, "–", 3, "–", "–", "–")


def test_other_pools_and_weights_that_are_gone_are_said(fitted, tmp_path):
    folder, study, real, good = fitted
    rows, notes = told(folder, good="another pool")
    assert rows == [] and notes == ["findings/resnet18: not answered for these sets: `synthrad study run tiny.yaml` does it"]
    shutil.copytree(folder / KEY, tmp_path / KEY)
    shutil.rmtree(tmp_path / KEY / "seed1" / "checkpoints")
    answer(study, real, "findings", "resnet18", tmp_path / KEY, "real_only", {"good": good}, identity_of("id", {"good": "p"}))
    assert not (tmp_path / KEY / "seed1" / CASES).exists() and json.loads((tmp_path / KEY / MARK).read_text())["notes"]
    rows, notes = told(tmp_path)
    assert rows == [] and "its weights were not kept" in notes[0]


def test_answers_follow_the_images(fitted, tmp_path):
    """A net that knows the truth of a set by construction scores 1 there."""
    folder = fitted[0]
    shutil.copytree(folder / KEY, tmp_path / KEY)
    for seed in range(2):
        path = tmp_path / KEY / f"seed{seed}" / CASES
        cases = read_cases([path])
        write_cases(path, cases.assign(probability=np.where(cases["target"] == 1, 0.9, 0.1)))
    (row,), _ = told(tmp_path)
    assert row.on_synthetic.value == 1.0


def test_a_sample_is_capped_the_same_at_every_call_and_each_image_stands_alone(fitted, monkeypatch):
    good: Manifest = fitted[3]
    assert len(sample_of(good)) == 40
    monkeypatch.setattr(crossed, "MOST", 7)
    one, two = sample_of(good), sample_of(good)
    assert len(one) == 7 == len(set(one.column("subject"))) and list(one.column("digest")) == list(two.column("digest"))
