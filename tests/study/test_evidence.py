"""evidence.json and its tables: complete, plain, without NaN, the same twice."""

import json

import numpy as np
import pandas as pd
import pytest
from test_subgroups import cases_of, manifest

from synthrad.study.evidence import evidence_of, write_evidence
from synthrad.study.verdicts import Endpoint

LOGS = {"gan": [[{"per_subgroup": {"sex=F": {"kept": 20, "rejected": 30}, "sex=M": {"kept": 40, "rejected": 10}}, "per_class": {}}]]}


def of(kind, metric, silence="", seeds=5):
    real = manifest(120)
    return evidence_of(cases_of(kind, real, 2.0, seeds), Endpoint("t", "n", metric), {"fused": []}, [], [real], LOGS, {"t": 5},
                       silence=silence, resamples=100)


@pytest.mark.parametrize(("kind", "metric", "tables"), [
    ("segmentation", "dice", {"beside", "power", "needed", "subgroups", "gaps", "accepted"}),
    ("classification", "auroc", {"beside", "power", "needed", "subgroups", "gaps", "accepted", "calibration", "reliability"})])
def test_files(tmp_path, kind, metric, tables):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "calibration.csv").write_text("of an earlier report")
    found = of(kind, metric)
    path = write_evidence(tmp_path, found)
    data = json.loads(path.read_text())
    assert {p.stem for p in (tmp_path / "evidence").glob("*.csv")} == tables
    assert data["format"] == 1 and data["subgroups"]["flagged"] and "women" not in data
    gap = next(g for g in data["subgroups"]["gaps"] if g["attribute"] == "sex" and g["call"] == "widened")
    table = pd.read_csv(tmp_path / "evidence" / "gaps.csv")
    row = table[(table["attribute"] == "sex") & (table["metric"] == gap["metric"])].iloc[0]
    assert row["change"] == pytest.approx(gap["change"]) and row["groups"] == "F | M"
    assert [a["lowest"] for a in data["accepted"]] == [True, False]
    assert any("Train real, test synthetic" in x for x in data["not_tested"])
    first = path.read_bytes()
    write_evidence(tmp_path, of(kind, metric))
    assert path.read_bytes() == first
    assert np.isfinite([b["difference"] for b in data["beside"]]).all()


def test_what_fails_is_said_once(tmp_path):
    found = of("segmentation", "dice", "mechanics", seeds=2)
    assert "Mixed model, 1 comparison: not tested: needs 3 seeds and 10 subjects, has 2 and 120" in found.not_tested
    assert all(b.p_both is None for b in found.beside) and found.subgroups.looks == 0
    json.loads(write_evidence(tmp_path, found).read_text())


def test_without_attributes_it_says_so():
    real = manifest(30)
    cases = cases_of("classification", real)
    bare = real.with_columns({f"attribute:{a}": np.full(30, "") for a in real.names("attribute")})
    found = evidence_of(cases, Endpoint("t", "n", "auroc"), {"fused": []}, [], [bare], {}, {"t": 5}, resamples=50)
    assert found.subgroups.values == () and "no attribute of the test images" in found.not_tested[0]
