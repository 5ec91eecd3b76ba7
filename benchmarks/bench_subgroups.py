"""Measure the calls on subgroups: how often a gap is called widened where fusion changed nothing, and where it did.

    python benchmarks/bench_subgroups.py            about a minute on one core

Appends one JSON line a setting to benchmarks/results/subgroups.jsonl and prints one line a goal.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))
from inference_tables import groups  # noqa: E402

from synthrad.study.report import processor  # noqa: E402
from synthrad.study.subgroups import FLAGS, gap_of  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "subgroups.jsonl"
LABELS = {"task": "t", "net": "n", "external": "", "metric": "dice", "class_name": "macro", "attribute": "site"}
MOST_FALSE, LEAST_FOUND = 0.05, 0.9
SETTINGS = [  # name, sizes of the subgroups, gap before, widening, what an arm does to a patient (SD), seeds
    ("none", (30, 30), 0.0, 0.0, 0.03, 5),
    ("none", (30, 30), 0.1, 0.0, 0.03, 5),
    ("none", (30, 30), 0.0, 0.0, 0.03, 3),
    ("none", (10, 10), 0.0, 0.0, 0.10, 5),
    ("none", (12, 20, 25, 33), 0.0, 0.0, 0.03, 5),
    ("none", (12, 20, 25, 33), 0.0, 0.0, 0.10, 5),
    ("none", (15, 60), 0.05, 0.0, 0.10, 5),
    ("planted", (40, 40), 0.0, 0.05, 0.03, 5),
    ("planted", (40, 40), 0.05, 0.05, 0.03, 5),
    ("planted", (20, 30, 30, 30), 0.0, 0.1, 0.03, 5),
]


def calls_of(rng, tables: int, sizes, gap: float, widening: float, subject: float, seeds: int) -> dict[str, float]:
    """Share of simulated tables with each call."""
    found = Counter(gap_of(groups(rng, sizes, seeds, gap, widening, subject), "fused", "real_only", 0.02, LABELS).call
                    for _ in tqdm(range(tables), leave=False, disable=None))
    return {call: n / tables for call, n in sorted(found.items())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000, help="simulated tables a setting (default %(default)s)")
    args = parser.parse_args()
    rng, lines = np.random.default_rng(20261122), []
    for name, sizes, gap, widening, subject, seeds in SETTINGS:
        calls = calls_of(rng, args.tables, sizes, gap, widening, subject, seeds)
        flagged = sum(calls.get(c, 0.0) for c in FLAGS)
        goal = f"<={MOST_FALSE}" if name == "none" else f">={LEAST_FOUND}"
        met = flagged <= MOST_FALSE if name == "none" else flagged >= LEAST_FOUND
        print(f"subgroups_{name}_{'-'.join(map(str, sizes))} {flagged:.4f} {goal} {'met' if met else 'short'}", flush=True)
        lines.append({"name": f"subgroups_{name}", "tables": args.tables, "sizes": sizes, "gap": gap, "widening": widening, "subject": subject,
                      "seeds": seeds, "calls": calls, "flagged": flagged, "date": date.today().isoformat(), "numpy": version("numpy"),
                      "scipy": version("scipy"), "cpu": processor()})
    with open(RESULTS, "a") as f:
        f.write("".join(json.dumps(line) + "\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
