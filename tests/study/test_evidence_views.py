"""What stands beside the verdicts, as the report shows it."""

import pytest
from test_evidence import of

from synthrad.study.evidence_views import evidence_tables, interval


@pytest.mark.parametrize(("kind", "metric", "names"), [
    ("segmentation", "dice", ["subgroup_values", "gaps", "accepted", "beside"]),
    ("classification", "auroc", ["subgroup_values", "gaps", "accepted", "beside", "calibration"])])
def test_tables(kind, metric, names):
    evidence = of(kind, metric)
    tables = {t.name: t for t in evidence_tables(evidence)}
    assert list(tables) == names and all(len(row) == len(t.columns) for t in tables.values() for row in t.rows)
    gap = evidence.subgroups.gaps[0]
    assert tables["gaps"].rows[0][-1] in ("widened", "uneven") and {"change", "call"} <= set(tables["gaps"].columns)
    shown = next(r for r in tables["gaps"].rows if (r[3], r[4], r[2]) == (gap.attribute, gap.arm, gap.class_name) and r[5] == gap.before)
    assert shown[6] == gap.after
    values = tables["subgroup_values"]
    assert values.columns[4:] == ("real_only", "fused") and {r[2] for r in values.rows if r[1] == "sex"} == {"F", "M"}
    assert tables["beside"].rows[0][2] == evidence.beside[0].difference and tables["accepted"].rows[0][-1] == "below the best"


def test_intervals():
    assert interval(-0.1234, 0.5) == "[−0.123, 0.500]" and interval(None, 1.0) == "–" and interval(-1e-9, 0.0) == "[0.000, 0.000]"
