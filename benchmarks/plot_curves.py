"""Draw KID against images seen for every generator of benchmarks/results/curves_*.jsonl, beside its null.

    python benchmarks/plot_curves.py            writes docs/kid_curves.png
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
OUT = Path(__file__).parents[1] / "docs" / "kid_curves.png"
COLUMNS = 3


def read(folder: Path) -> dict[str, dict[str, list[dict]]]:
    """File -> source -> its fidelity lines in order."""
    found: dict[str, dict[str, list[dict]]] = {}
    for path in sorted(folder.glob("curves_*.jsonl")):
        by_source: dict[str, list[dict]] = defaultdict(list)
        for line in map(json.loads, path.read_text().splitlines()):
            if line["check"] == "fidelity":
                by_source[line.get("source", "")].append(line)
        if by_source:
            found[path.stem.removeprefix("curves_")] = dict(by_source)
    return found


def draw(curves: dict[str, dict[str, list[dict]]], out: Path) -> None:
    """One panel a file; bands are 95 % over validation patients."""
    rows = -(-len(curves) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(12, 2.9 * rows), squeeze=False, layout="constrained")
    for place, (name, sources) in zip(axes.flat, curves.items(), strict=False):
        nulls = []
        for source, lines in sources.items():
            images = np.array([x["images"] for x in lines]) / 1000
            (line,) = place.plot(images, [x["kid"] for x in lines], "o-", markersize=3, label=source or "generator")
            place.fill_between(images, [x["kid_low"] for x in lines], [x["kid_high"] for x in lines], color=line.get_color(), alpha=0.2, linewidth=0)
            nulls += [(x["null_kid_low"], x["null_kid_high"]) for x in lines]
        low, high = np.median(nulls, axis=0)
        place.axhspan(low, high, color="#009e73", alpha=0.25, linewidth=0, label="real training images")
        place.set_yscale("symlog", linthresh=1)
        place.set_title(name, fontsize=9)
        place.legend(frameon=False, fontsize=7)
        place.spines[["top", "right"]].set_visible(False)
    for place in list(axes.flat)[len(curves):]:
        place.set_axis_off()
    figure.supxlabel("images seen, in thousands", fontsize=9)
    figure.supylabel("KID of radiomics features to validation images", fontsize=9)
    figure.savefig(out, dpi=110, facecolor="white", metadata={"Software": None})


def main() -> None:
    """Read and draw."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    draw(read(RESULTS), OUT)
    print(f"wrote {OUT.relative_to(OUT.parents[1])}")


if __name__ == "__main__":
    main()
