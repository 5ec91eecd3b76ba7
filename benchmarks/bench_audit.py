"""Time what an audit searches with: correlations of 8-bit images as floats and as integers, beside one matrix product; a whole audit beside its parts.

    python benchmarks/bench_audit.py                        10,000 synthetic and 5,000 real images at 64 px, then an audit of phantoms
    python benchmarks/bench_audit.py --synthetic 2000 --real 2000 --rounds 3 --no-audit

The product multiplies float32 matrices of the same shape, by torch or numpy, whichever is faster here: the rate that this machine has. All are timed in
turns. Memory is what a process of its own holds beyond the images. Appends JSON lines to benchmarks/results/audit.jsonl and prints
one line a goal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from synthrad.metrics.similarity import nearest_images
from synthrad.study.report import processor

RESULTS = Path(__file__).parent / "results" / "audit.jsonl"
BLOCK = 2048  # rows of the product that the search is compared with: its result does not fill the memory


def pictures(number: int, size: int, seed: int) -> np.ndarray:
    """uint8 [number, 1, size, size]: smooth, as radiographs are."""
    made, rng = np.empty((number, 1, size, size), np.uint8), np.random.default_rng(seed)
    for at in range(0, number, 1000):
        part = torch.from_numpy(rng.normal(size=(min(1000, number - at), 1, 8, 8)).astype(np.float32))
        wide = torch.nn.functional.interpolate(part, (size, size), mode="bicubic")
        noisy = 128 + 45 * wide.numpy() + rng.normal(scale=6, size=wide.shape)
        made[at : at + len(part)] = np.clip(noisy, 0, 255).astype(np.uint8)
    return made


def product(synthetic: int, real: int, pixels: int, library: str) -> Callable[[], None]:
    """The products that a search needs, and nothing else."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(min(n, BLOCK), pixels)).astype(np.float32) for n in (synthetic, real))
    if library == "torch":
        a, b = torch.from_numpy(a), torch.from_numpy(b)

    def run() -> None:
        for i in range(0, synthetic, BLOCK):
            for j in range(0, real, BLOCK):
                a[: min(BLOCK, synthetic - i)] @ b[: min(BLOCK, real - j)].T

    return run


def seconds(run: Callable[[], object]) -> float:
    """Of one call."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def searches(args: argparse.Namespace) -> dict:
    """Medians and spread of the ratios to the product, in turns."""
    drawn, real = pictures(args.synthetic, args.size, 0), pictures(args.real, args.size, 1)
    floats = drawn.astype(np.uint16), real.astype(np.uint16)  # as 16-bit radiographs, which go through float32
    few = [product(min(args.synthetic, BLOCK), min(args.real, BLOCK), args.size**2, n) for n in ("torch", "numpy")]
    library = "torch" if min(seconds(few[0]) for _ in range(3)) <= min(seconds(few[1]) for _ in range(3)) else "numpy"
    gemm = product(args.synthetic, args.real, args.size**2, library)
    times: dict[str, list[float]] = {"product": [], "float": [], "int8": []}
    for _ in range(args.rounds):
        times["product"].append(seconds(gemm))
        times["float"].append(seconds(lambda: nearest_images(*floats)))
        times["int8"].append(seconds(lambda: nearest_images(drawn, real)))
    found, same = nearest_images(*floats), nearest_images(drawn, real)
    rates = {"float_rate": [p / t for p, t in zip(times["product"], times["float"], strict=True)],
             "int8_speed": [p / t for p, t in zip(times["product"], times["int8"], strict=True)]}
    return {"bench": "audit_search", "synthetic": args.synthetic, "real": args.real, "size": args.size, "rounds": args.rounds, "library": library,
            **{k: statistics.median(v) for k, v in rates.items()}, **{f"{k}_range": [min(v), max(v)] for k, v in rates.items()},
            "same_neighbours": float((found.index == same.index).mean()), "product_seconds": statistics.median(times["product"])}


def beyond(args: argparse.Namespace, kind: str) -> float:
    """GB that a search holds at most beyond the images and a warm library, in a process of its own."""
    code = """
import sys
from pathlib import Path
import numpy as np
from synthrad.metrics.similarity import nearest_images
a, b = np.load(sys.argv[1]), np.load(sys.argv[2])
peak = lambda: int(next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM")).split()[1])
nearest_images(a[:64], b[:64])
Path("/proc/self/clear_refs").write_text("5")  # the peak of importing libraries is forgotten
before = peak(); nearest_images(a, b); print((peak() - before) / 2**20)
"""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{k}.npy") for k in (0, 1)]
        for path, number in zip(paths, (args.synthetic, args.real), strict=True):
            np.save(path, pictures(number, args.size, 0).astype(kind))
        done = subprocess.run([sys.executable, "-c", code, *paths], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


PARTS = {"copies.py": ("scores", "refine", "band"), "features.py": ("radiomics",)}  # the searches and passes that an audit cannot do without


def whole(images: int, trials: int) -> dict:
    """Seconds of an audit of phantoms, and of its searches and feature passes within it (by the profiler: few calls, so it costs little)."""
    import cProfile
    import pstats

    from synthrad.audit.command import audit
    from synthrad.data.phantom import write_phantoms
    from synthrad.data.phantom_dialled import draw_dialled
    from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key
    from synthrad.records import Manifest

    with tempfile.TemporaryDirectory() as folder:
        os.environ["SYNTHRAD_PROJECT"] = folder
        real = write_phantoms(Path(folder) / "real", images, (64, 128), 0)
        train = real.where(split="train").column("subject")
        maker = Fitted("generator", "0" * 64, trained_on=hash_subjects(real.info.id, train, project_key()), key_id=key_id(project_key()))
        drawn = draw_dialled(real, Path(folder) / "drawn", images, "good", 7)
        drawn = Manifest(drawn.table, replace(drawn.info, lineage=Lineage((maker,), {})))
        profile = cProfile.Profile()
        took = seconds(lambda: profile.runcall(audit, drawn, real, Path(folder) / "out", trials=trials))
    spent = {(Path(file).name, name): cumulative for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items()}
    parts = {name: spent[file, name] for file, names in PARTS.items() for name in names}
    return {"bench": "audit_whole", "images": images, "trials": trials, "seconds": took, "over_parts": took / sum(parts.values()), "parts": parts}


def main() -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--synthetic", type=int, default=10_000)
    p.add_argument("--real", type=int, default=5_000)
    p.add_argument("--size", type=int, default=64)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--images", type=int, default=300, help="phantoms on each side of the whole audit")
    p.add_argument("--trials", type=int, default=50)
    p.add_argument("--no-audit", action="store_true", help="only the searches")
    p.add_argument("--dry-run", action="store_true", help="write no results")
    args = p.parse_args()
    stamp = {"date": date.today().isoformat(), "device": processor(), "threads": torch.get_num_threads(), "cores": os.cpu_count(),
             "torch": version("torch"), "numpy": version("numpy"), "synthrad": version("synthrad")}
    found = searches(args)
    lines = [found | {"float_gb": beyond(args, "uint16"), "int8_gb": beyond(args, "uint8")}]
    goals = [("audit_search_float_rate", found["float_rate"], ">=0.85"), ("audit_search_int8_speed", found["int8_speed"], ">=2.5"),
             ("audit_search_same_neighbours", found["same_neighbours"], ">=1"),
             ("audit_search_float_gb", lines[0]["float_gb"], "<=0.1"), ("audit_search_int8_gb", lines[0]["int8_gb"], "<=0.1")]
    if not args.no_audit:
        lines.append(whole(args.images, args.trials))
        goals.append(("audit_over_parts", lines[1]["over_parts"], "<=1.05"))
    if not args.dry_run:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with RESULTS.open("a") as file:
            file.writelines(json.dumps(x | stamp) + "\n" for x in lines)
    for name, value, goal in goals:
        met = value >= float(goal[2:]) if goal[0] == ">" else value <= float(goal[2:])
        print(f"{name} {value:.3f} {goal} {'met' if met else 'short'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
