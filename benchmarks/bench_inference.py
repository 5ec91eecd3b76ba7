"""Measure the inference: coverage of the intervals, false claims and found effects of the whole rule.

    python benchmarks/bench_inference.py            some 5 minutes on one core
    python benchmarks/bench_inference.py --tables 200 --quick
    python benchmarks/bench_inference.py --metric average_precision --tables 8000 --seed 1

Appends one JSON line a number to benchmarks/results/inference.jsonl and prints one line a goal.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))
from inference_tables import Effects, answers, matrices, true_auroc  # noqa: E402

from synthrad.metrics.classification import set_metric  # noqa: E402
from synthrad.statistics.corrections import seeds_t  # noqa: E402
from synthrad.statistics.layouts import layout_of, two_way  # noqa: E402
from synthrad.statistics.power import planned, smallest_detectable  # noqa: E402
from synthrad.statistics.resampling import plan_resamples  # noqa: E402
from synthrad.study.comparisons import decide  # noqa: E402
from synthrad.study.report import processor  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "inference.jsonl"
ARMS, REFERENCES = 4, ("real_only", "duplicate", "augmented")
LAYOUTS = [  # seeds, subjects, images a subject, effects
    (5, 60, 3, Effects()),
    (5, 30, 2, Effects(0.02, 0.02, 0.03)),
    (10, 100, 2, Effects(0.005, 0.04, 0.03)),
    (3, 60, 3, Effects()),
    (5, 60, 3, Effects(0.0, 0.0, 0.05)),
]
SETS = [
    ("auroc", 5, 100, Effects(0.15, 0.5, 0.4, 0.4, 0.6)),
    ("auroc", 5, 100, Effects(0.4, 0.2, 0.3, 0.3, 0.6)),
    ("auroc", 10, 60, Effects(0.2, 0.4, 0.4, 0.4, 0.6)),
    ("average_precision", 5, 100, Effects(0.15, 0.5, 0.4, 0.4, 0.6)),
    ("average_precision", 5, 100, Effects(0.4, 0.2, 0.3, 0.3, 0.6)),
    ("f1", 5, 100, Effects(0.15, 0.5, 0.4, 0.4, 0.6)),
]


def covered(interval: tuple[float, float], truth: float) -> bool:
    return interval[0] <= truth <= interval[1]


def layout_coverage(
    rng, tables: int, seeds: int, subjects: int, images: int, effects: Effects
) -> dict[str, float]:
    """Share of tables whose two-way interval of the difference of two arms holds the true 0."""
    found = matrices(rng, tables, 2, seeds, subjects, images, effects)
    return {"coverage": float(np.mean([covered(two_way(t[1] - t[0]).interval(), 0.0) for t in found]))}


def set_coverage(
    rng, tables: int, metric: str, seeds: int, subjects: int, effects: Effects, resamples: int = 200
) -> dict[str, float]:
    """Coverage of the interval that verdicts use and of the percentile interval, for a difference of two arms.

    AUROC: a true difference in closed form; the others: two equal arms.
    """
    separations = (1.2, 1.5) if metric == "auroc" else (1.3, 1.3)
    truth = true_auroc(separations[1], effects) - true_auroc(separations[0], effects)
    hits, done = np.zeros(2), 0
    for table in tqdm(range(tables), desc=f"{metric}, tables", leave=False, disable=None):
        a, b = answers(rng, separations, seeds, subjects, 2, effects)
        plan = plan_resamples(subjects, seeds, resamples, table)
        draws = plan.draw(set_metric(metric, [b])) - plan.draw(set_metric(metric, [a]))
        if (interval := draws.layout().interval()) is None:
            continue
        hits += covered(interval, truth), covered(draws.percentile(), truth)
        done += 1
    return {
        "coverage": hits[0] / done,
        "coverage_percentile": hits[1] / done,
        "without_interval": tables - done,
    }


def rule_claims(
    rng,
    tables: int,
    seeds: int,
    subjects: int,
    images: int,
    effects: Effects,
    gain: float = 0.0,
    above: float = 0.0,
) -> dict[str, float]:
    """What the whole rule says of 4 arms, each against the reference and two controls.

    Args:
        gain: true effect of the first arm over all its references. above: true effect of every arm over the reference and the
            first control only (least favourable: nothing is gained over the last control).

    Returns:
        claims (share of tables with any gain called), found (share with the first arm called), harm (any harm called), and
        seeds_t (share in which the t over seeds with Bonferroni would have claimed a gain against some reference).
    """
    found = matrices(rng, tables, ARMS + len(REFERENCES), seeds, subjects, images, effects)
    found[:, 0] += gain
    found[:, :ARMS] += above
    found[:, -1] += above
    counts = np.zeros(4)
    for table in found:
        differences = {
            f"arm{a}": {r: table[a] - table[ARMS + k] for k, r in enumerate(REFERENCES)} for a in range(ARMS)
        }
        calls = {arm: d.call for arm, d in decide(differences).items()}
        t = [
            seeds_t(d.mean(1), ARMS * len(REFERENCES)) for mine in differences.values() for d in mine.values()
        ]
        seeds_only = min(p for p in t if p is not None) <= 0.05
        counts += ["gain" in calls.values(), calls["arm0"] == "gain", "harm" in calls.values(), seeds_only]
    return dict(zip(("claims", "found", "harm", "seeds_t"), (counts / tables).tolist(), strict=True))


def expected_layout(seeds: int, subjects: int, images: int, effects: Effects):
    """The layout of a difference of two arms with its expected mean squares."""
    e = effects
    residual = 2 * (e.residual**2 + e.image**2 / images)
    squares = (residual + 2 * subjects * e.seed**2, residual + 2 * seeds * e.subject**2, residual)
    return layout_of(0.0, squares, seeds, subjects)


def detectable(seeds: int, subjects: int, images: int, effects: Effects, power: float = 0.9) -> float:
    """The effect for which the power table says `power`, for the whole rule."""
    variance, df = planned(expected_layout(seeds, subjects, images, effects), seeds, subjects)
    return smallest_detectable(variance, df, power, arms=ARMS, references=len(REFERENCES))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=int, default=2000, help="simulated tables a number (default 2000)")
    parser.add_argument(
        "--quick", action="store_true", help="first setting of each kind only; nothing is written"
    )
    parser.add_argument("--metric", choices=sorted({s[0] for s in SETS}), help="only the coverage of this metric of a whole test set")
    parser.add_argument("--seed", type=int, default=20250101, help="of the tables")
    options = parser.parse_args()
    rng, lines, goals = np.random.default_rng(options.seed), [], []
    layouts = [] if options.metric else LAYOUTS[: 1 if options.quick else None]
    sets = [s for s in SETS if options.metric in (None, s[0])][: 1 if options.quick else None]

    def note(name: str, setting: dict, values: dict) -> None:
        lines.append({"name": name, "tables": options.tables, "seed": options.seed, **setting, **values})
        print(json.dumps(lines[-1]))

    for seeds, subjects, images, effects in layouts:
        values = layout_coverage(rng, options.tables, seeds, subjects, images, effects)
        note(
            "coverage_two_way",
            {"seeds": seeds, "subjects": subjects, "images": images, "effects": asdict(effects)},
            values,
        )
        if seeds >= 5 and effects.subject > 0:
            goals.append((f"coverage_two_way_{seeds}x{subjects}", values["coverage"], 0.93, 0.97))
    for metric, seeds, subjects, effects in sets:
        tables = max(1, options.tables // 2)
        values = set_coverage(rng, tables, metric, seeds, subjects, effects)
        note(
            f"coverage_{metric}",
            {"tables": tables, "seeds": seeds, "subjects": subjects, "images": 2, "effects": asdict(effects)},
            values,
        )
        goals.append(
            (f"coverage_{metric}_{seeds}x{subjects}_seed{effects.seed}", values["coverage"], 0.93, 0.97)
        )
    for seeds, subjects, images, effects in layouts[:3]:
        setting = {
            "seeds": seeds,
            "subjects": subjects,
            "images": images,
            "effects": asdict(effects),
            "arms": ARMS,
            "references": 3,
        }
        for name, kind in (("no_effect", {}), ("no_effect_over_one_control", {"above": 0.05})):
            values = rule_claims(rng, options.tables, seeds, subjects, images, effects, **kind)
            note(f"rule_{name}", {**setting, **kind}, values)
            goals.append((f"false_claims_{name}_{seeds}x{subjects}", values["claims"], 0.0, 0.064))
        gain = detectable(seeds, subjects, images, effects)
        values = rule_claims(rng, options.tables, seeds, subjects, images, effects, gain)
        note("rule_effect", {**setting, "gain": gain}, values)
        goals.append((f"found_{seeds}x{subjects}", values["found"], 0.8, 1.0))
    if not options.quick:
        versions = {p: version(p) for p in ("numpy", "scipy", "statsmodels", "pandas")}
        stamp = {
            "date": date.today().isoformat(),
            "python": sys.version.split()[0],
            **versions,
            "cpu": processor(),
        }
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with RESULTS.open("a") as file:
            file.writelines(json.dumps({**line, **stamp}) + "\n" for line in lines)
    for name, value, low, high in goals:
        print(f"{name} {value:.3f} {low:g}-{high:g} {'met' if low <= value <= high else 'short'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
