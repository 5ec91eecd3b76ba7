"""evidence.json and evidence/*.csv: what a finished study shows beside its verdicts; none of it drives one."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from synthrad.files import write_durably
from synthrad.records import Manifest
from synthrad.study.acceptance import AcceptRate, accept_rates
from synthrad.study.beside import Beside, Largest, Power, beside
from synthrad.study.calibration import Calibration, CurvePoint, calibrations
from synthrad.study.subgroups import Subgroups, grouping_of, subgroups
from synthrad.study.verdicts import Endpoint

FILE, FOLDER = "evidence.json", "evidence"  # in the run folder


@dataclass(frozen=True)
class Evidence:
    """All exploratory analyses of one study.

    Args:
        beside, powers, largest: other tests of the endpoint's differences, power tables, the maximum labelled as one.
        subgroups: bias of the nets; accepted: of the filters. calibrations, curves: of classifiers.
        not_tested: one line each, with what is lacking.
    """

    endpoint: Endpoint
    beside: tuple[Beside, ...]
    powers: tuple[Power, ...]
    largest: tuple[Largest, ...]
    subgroups: Subgroups
    accepted: tuple[AcceptRate, ...]
    calibrations: tuple[Calibration, ...]
    curves: tuple[CurvePoint, ...]
    not_tested: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data without NaN; the points of the curves are in evidence/reliability.csv only."""
        return plain({
            "format": 1,
            "exploratory": "none of this drives a verdict",
            "endpoint": asdict(self.endpoint),
            "beside": [b.to_dict() for b in self.beside],
            "power": [p.to_dict() for p in self.powers],
            "largest": [m.to_dict() for m in self.largest],
            "subgroups": self.subgroups.to_dict(),
            "accepted": [a.to_dict() for a in self.accepted],
            "calibration": [c.to_dict() for c in self.calibrations],
            "not_tested": list(self.not_tested),
        })

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Name of a CSV file -> its rows."""
        return {
            "beside": [_flat_test(b) for b in self.beside],
            "power": [{"arm": p.arm, "reference": p.reference, **row} for p in self.powers for row in p.table],
            "needed": [{"arm": p.arm, "reference": p.reference, "difference": p.difference, **row} for p in self.powers for row in p.needed],
            "subgroups": [asdict(v) for v in self.subgroups.values],
            "gaps": [{**asdict(g), "groups": " | ".join(g.groups)} for g in self.subgroups.gaps],
            "accepted": [a.to_dict() for a in self.accepted],
            "calibration": [c.to_dict() for c in self.calibrations],
            "reliability": [asdict(c) for c in self.curves],
        }


def evidence_of(cases: pd.DataFrame, endpoint: Endpoint, compared: Mapping[str, Sequence[str]], replacing: Sequence[str],
                test_sets: Sequence[Manifest], filter_logs: Mapping[str, Any], fewest: Mapping[str, int], reference: str = "real_only",
                silence: str = "", resamples: int = 1000) -> Evidence:
    """Run every analysis.

    Args:
        cases: a cases table. compared: adding arm -> its controls. replacing: arms without real rows.
        test_sets: the real images of the test split and the external sets, for their attributes.
        filter_logs: source -> its filter_log.json. fewest: task -> test subjects with and without a finding that a class needs.
        silence: why no arm gets a verdict (`Comparisons.why_silent`).
    """
    grouping = pd.concat([grouping_of(m) for m in test_sets])
    found = subgroups(cases, grouping[~grouping.index.duplicated()], endpoint.margin, reference, endpoint.alpha)
    calibrated, curves, untested = calibrations(cases, reference, fewest, endpoint.alpha)
    tests, powers, most = beside(cases, endpoint, compared, replacing, reference, silence, resamples, fewest=fewest[endpoint.task])
    failed = Counter(b.mixed.note for b in tests if b.mixed and b.mixed.low is None)
    lines = [*(f"Subgroups of {w}" for w in found.not_tested), *untested,
             *(f"Mixed model, {n} comparison{'s' if n > 1 else ''}: {why}" for why, n in failed.items()),
             "Train real, test synthetic: a study keeps no weights of its fits."]
    if not found.values:
        lines.insert(0, "Subgroups: no attribute of the test images has two values with 10 subjects each: needs attributes (`--attributes` when preparing).")
    return Evidence(endpoint, tuple(tests), tuple(powers), tuple(most), found, tuple(accept_rates(filter_logs)), tuple(calibrated), tuple(curves),
                    tuple(lines))


def write_evidence(run: Path, evidence: Evidence) -> Path:
    """Write run/evidence.json and run/evidence/*.csv durably, removing tables of an earlier report that have no row now."""
    folder = Path(run) / FOLDER
    folder.mkdir(exist_ok=True)
    for name, rows in evidence.tables().items():
        if not rows:
            (folder / f"{name}.csv").unlink(missing_ok=True)
            continue
        text = io.StringIO()
        pd.DataFrame(rows).to_csv(text, index=False, lineterminator="\n")
        write_durably(folder / f"{name}.csv", text.getvalue().encode())
    path = Path(run) / FILE
    write_durably(path, json.dumps(evidence.to_dict(), indent=1, allow_nan=False).encode())
    return path


def _flat_test(b: Beside) -> dict[str, Any]:
    row = {k: getattr(b, k) for k in ("arm", "reference", "metric", "difference", "seeds", "subjects", "p_both", "p_equivalent")}
    row |= {f"p_flip_{f.unit}": f.p for f in b.flips}
    mixed = ("value", "low", "high", "p", "variance_seed", "variance_subject", "variance_residual", "converged", "note")
    row |= {f"mixed_{k}": getattr(b.mixed, k) if b.mixed else None for k in mixed}
    effect = ("d_z", "d_low", "d_high", "g", "g_low", "g_high", "better", "better_low", "better_high")
    return row | {k: getattr(b.effect, k) if b.effect else None for k in effect} | {"note": b.note}


def plain(value: Any) -> Any:
    """NaN and infinity become null, tuples lists, NumPy's numbers Python's: what JSON knows."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
