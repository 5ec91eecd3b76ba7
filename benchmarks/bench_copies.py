"""Measure the search for copies between two sets: what it finds of planted ones, what it claims wrongly, and how long it takes.

    python benchmarks/bench_copies.py                        phantoms, 10 minutes on one core, most of them for 10,000 x 10,000 pictures
    python benchmarks/bench_copies.py --timed --packs data/cxr_lungs data/nih_chest_64   phantoms and real sets: each pair, and each set's halves by patient
    python benchmarks/bench_copies.py --timed --same data/dental_teeth data/dental_teeth_binary   two sets of the same images

Copies of images of one set (JPEG of quality 70 to 95, mirrored, cropped by 5 to 15 %, rescaled to 0.6 to 2, plain) are put among those of the other. A false
alarm is an image of the first set in a pair that nobody planted, unless the other picture is a planted copy of another image of that patient, who is in both sets
then: these are counted beside it. `--same` changes every image of the second set. Timed are smooth random pictures around one mean, from thumbnails on: files are decoded before. Appends JSON lines to
benchmarks/results/copies.jsonl and prints one line a goal.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from synthrad.data.images import read_image
from synthrad.data.near_copies import FULL, VIEWS, copies_between, picture_of
from synthrad.data.phantom import draw_phantom
from synthrad.progress import progress
from synthrad.records import Manifest
from synthrad.study.report import processor

RESULTS = Path(__file__).parent / "results" / "copies.jsonl"
LEAST_FOUND, MOST_FALSE = 0.95, 0.01


def jpeg(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=int(rng.integers(70, 96)))
    return np.array(Image.open(stream))


def cropped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = [round(side * (1 - rng.uniform(0.05, 0.15))) for side in image.shape]
    top, left = (rng.integers(0, whole - part + 1) for whole, part in zip(image.shape, size, strict=True))
    return image[top : top + size[0], left : left + size[1]]


def rescaled(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    share = rng.choice([rng.uniform(0.6, 0.9), rng.uniform(1.1, 2.0)])
    return np.array(Image.fromarray(image).resize([round(s * share) for s in image.shape[::-1]], Image.Resampling.BILINEAR))


CHANGES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "plain": lambda image, rng: image, "jpeg": jpeg, "mirrored": lambda image, rng: image[:, ::-1], "cropped": cropped, "rescaled": rescaled}


def thumbnails(images: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([picture_of([a]) for a in images], np.float32)


def measured(name: str, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], planted: int, rng: np.random.Generator, patients: Sequence[object]) -> dict[str, Any]:
    """Plant copies of the first images, of these patients, among the second ones, search, count."""
    kinds = list(CHANGES)
    chosen = rng.permutation(len(ours))[:planted]
    copies = [CHANGES[kinds[k % len(kinds)]](ours[i], rng) for k, i in enumerate(chosen)]
    true = {(int(i), len(theirs) + k): kinds[k % len(kinds)] for k, i in enumerate(chosen)}
    begun, cpu = time.perf_counter(), time.process_time()
    pairs, threshold = copies_between(thumbnails(ours), thumbnails([*theirs, *copies]))
    found = {(p.first, p.second) for p in pairs}
    lost = {kind: sum(true[pair] == kind for pair in set(true) - found) for kind in kinds}
    whose = {len(theirs) + k: patients[i] for k, i in enumerate(chosen)}
    others = {(i, j) for i, j in found - set(true) if whose.get(j) == patients[i]}
    return {"name": name, "ours": len(ours), "theirs": len(theirs), "planted": planted, "found": len(set(true) & found), "lost": {k: n for k, n in lost.items() if n},
            "other_images_of_the_patient": len({i for i, _ in others}), "false_images": len({i for i, _ in found - set(true) - others}),
            "threshold": round(threshold, 4), "seconds": round(time.perf_counter() - begun, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1)}


def images_of(folder: str) -> tuple[Manifest, list[np.ndarray]]:
    manifest = Manifest.read(folder)
    rows = progress(range(len(manifest)), desc=f"reading {manifest.info.name}", unit="image")
    return manifest, [read_image(manifest[i].channels[0]) for i in rows]


def packs(folders: Sequence[str], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Each real set against each other one, and in halves by patient."""
    read = {Path(f).name: images_of(f) for f in folders}
    lines = [measured(f"copies_{a}_in_{b}", read[a][1], read[b][1], min(100, len(read[a][1])), rng, read[a][0].column("subject")) for a, b in itertools.permutations(read, 2)]
    for name, (manifest, images) in read.items():
        side = dict.fromkeys(sorted(set(manifest.column("subject"))))
        side = dict(zip(side, rng.permutation(len(side)) % 2, strict=True))
        subjects = manifest.column("subject")
        halves = [[a for a, s in zip(images, subjects, strict=True) if side[s] == half] for half in (0, 1)]
        lines.append(measured(f"copies_halves_of_{name}", *halves, min(100, len(halves[0])), rng, [s for s in subjects if side[s] == 0]))
    return lines


def same(folders: Sequence[str], rng: np.random.Generator) -> dict[str, Any]:
    """Two sets of the same images in one order, every one of the second changed."""
    (_, ours), (_, theirs) = map(images_of, folders)
    kinds = list(CHANGES)
    begun, cpu = time.perf_counter(), time.process_time()
    pairs, threshold = copies_between(thumbnails(ours), thumbnails([CHANGES[kinds[k % len(kinds)]](a, rng) for k, a in enumerate(theirs)]))
    found = {(p.first, p.second) for p in pairs}
    lost = {kind: sum((k, k) not in found for k in range(number, len(ours), len(kinds))) for number, kind in enumerate(kinds)}
    return {"name": f"copies_{Path(folders[0]).name}_is_{Path(folders[1]).name}", "ours": len(ours), "theirs": len(theirs), "planted": len(theirs),
            "found": len(ours) - sum(lost.values()), "lost": {k: n for k, n in lost.items() if n}, "false_images": len({i for i, j in found if i != j}),
            "threshold": round(threshold, 4), "seconds": round(time.perf_counter() - begun, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}


def timed(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """Seconds for so many pictures on either side."""
    mean = ndimage.gaussian_filter(rng.normal(size=(FULL, FULL)), 8)
    noise = ndimage.gaussian_filter(rng.normal(size=(2 * number, FULL, FULL)).astype(np.float32), (0, 3, 3))
    pictures = (mean / mean.std() + noise / noise.std()).astype(np.float32)
    begun, cpu = time.perf_counter(), time.process_time()
    with progress(desc="comparing images", total=len(VIEWS), unit="view") as bar:
        pairs, threshold = copies_between(pictures[:number], pictures[number:], bar.update)
    return {"name": "copies_seconds", "ours": number, "theirs": number, "planted": 0, "found": 0, "lost": {}, "false_images": len({p.first for p in pairs}),
            "threshold": round(threshold, 4), "seconds": round(time.perf_counter() - begun, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}


def told(line: dict[str, Any]) -> str:
    """The goals of a line, in words."""
    if line["name"] == "copies_seconds":
        return f"copies_seconds {line['seconds']:.0f} s for {line['ours']:,} x {line['theirs']:,} pictures ({line['cpu_seconds']:.0f} s of CPU)"
    found, false = line["found"] / max(1, line["planted"]), line["false_images"] / line["ours"]
    return (f"{line['name']}_found {found:.3f} >={LEAST_FOUND} {'met' if found >= LEAST_FOUND else 'short'}\n"
            f"{line['name']}_false {false:.4f} <={MOST_FALSE} {'met' if false <= MOST_FALSE else 'short'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=400, help="drawn, half of them on either side (default %(default)s)")
    parser.add_argument("--timed", type=int, nargs="*", default=[10_000], help="pictures on either side whose comparison is timed (default %(default)s; no number: none)")
    parser.add_argument("--packs", nargs="*", default=[], metavar="MANIFEST", help="real sets without common images")
    parser.add_argument("--same", nargs=2, metavar="MANIFEST", help="two real sets of the same images in one order")
    args = parser.parse_args()
    rng, lines = np.random.default_rng(20261123), []
    if args.phantoms:
        drawn = [draw_phantom(0, k, (64, 64), subject=k).image for k in progress(range(args.phantoms), desc="drawing", unit="phantom")]
        half = args.phantoms // 2
        lines.append(measured("copies_phantoms", drawn[:half], drawn[half:], half // 2, rng, range(half)))
    lines += packs(args.packs, rng)
    lines += [same(args.same, rng)] if args.same else []
    lines += [timed(number, rng) for number in args.timed]
    facts = {"date": date.today().isoformat(), "numpy": version("numpy"), "scipy": version("scipy"), "cpu": processor()}
    with open(RESULTS, "a") as f:
        f.write("".join(json.dumps(line | facts) + "\n" for line in lines))
    print("\n".join(map(told, lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
