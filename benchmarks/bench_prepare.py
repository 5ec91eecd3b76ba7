"""Time `synthrad prepare` against decoding and hashing the same files alone.

    python benchmarks/bench_prepare.py                           10,000 PNGs and 10,000 DICOMs of 512 px, some 30 minutes on 2 cores
    python benchmarks/bench_prepare.py --images 400 --kinds png  a small run
    python benchmarks/bench_prepare.py --compare                 the search for near copies alone, among 10,000 pictures of 64 px

The files, grainy and as large as those of radiographs, are drawn into a temporary folder: 8-bit PNG, 12-bit DICOM without compression and as
JPEG 2000. Then things are done in turns, by as many processes each: a plain loop decodes each file and takes its SHA-256
(Pillow or pydicom in a pool of multiprocessing), and synthrad prepares a set (`--skip-near-copies`), once with all that it does by default, too.
PNGs stay where they are and the set refers to them; DICOMs become PNGs of the set. There the plain loop is also timed while it writes and flushes a file
of as many bytes as the set's PNG has. At last a prepare is killed in its middle and started again. Appends JSON lines to benchmarks/results/prepare.jsonl and prints one line a goal.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from synthrad.__main__ import main as synthrad
from synthrad.data import png
from synthrad.data.processes import cores
from synthrad.study.report import processor

RESULTS = Path(__file__).parent / "results" / "prepare.jsonl"
MOST = 1.2  # times the time of decoding and hashing
MOST_SECONDS = 60  # of a search for near copies among 10,000 pictures
FEW = 1000  # images of a run in which no text is looked for: the 100 that it is looked for in would be a large part of it, and are 1 % of 10,000
ENDINGS = {"png": "png", "dicom": "dcm", "dicom_jpeg2000": "dcm"}
DRAWN = 32  # pictures that all others are shifted copies of


def picture(number: int, size: int) -> np.ndarray:
    """[size, size] uint16 of 12 bit: smooth shapes with grain; no two numbers give the same one."""
    rng = np.random.default_rng(number % DRAWN)
    soft = lambda n: Image.fromarray(rng.normal(size=(n, n)).astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)  # noqa: E731
    grey = 1760 + 720 * np.asarray(soft(12)) + 190 * np.asarray(soft(60)) + rng.normal(scale=24, size=(size, size))
    shifted = np.roll(grey, number // DRAWN, axis=(0, 1)[number // DRAWN // size % 2])
    shifted[0, :4] = [number >> 12 & 4095, number & 4095, 0, 4095]
    return shifted.clip(0, 4095).astype(np.uint16)


def write_file(number: int, folder: Path, kind: str, size: int) -> None:
    """The file of a number: PNG by Pillow's own settings, DICOM by pydicom."""
    pixels, path = picture(number, size), folder / f"{number:06d}.{ENDINGS[kind]}"
    if kind == "png":
        Image.fromarray((pixels >> 4).astype(np.uint8)).save(path)
        return
    from openjpeg.utils import encode_array
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

    made, made.file_meta = Dataset(), FileMetaDataset()
    packed = kind == "dicom_jpeg2000"
    made.file_meta.TransferSyntaxUID = JPEG2000Lossless if packed else ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", generate_uid(entropy_srcs=[f"{kind} {number}"])
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    made.PatientID, made.Modality, made.BurnedInAnnotation = f"patient {number // 2}", "DX", "NO"
    made.StudyInstanceUID, made.SeriesInstanceUID = (generate_uid(entropy_srcs=[f"{w} {number // 2}"]) for w in ("study", "series"))
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = size, size, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.PixelData = encapsulate([encode_array(pixels, bits_stored=12)]) if packed else pixels.tobytes()
    made["PixelData"].VR = "OB" if packed else "OW"
    made.save_as(path, enforce_file_format=True)


def draw(folder: Path, kind: str, images: int, size: int, workers: int) -> None:
    """All files of a kind, and a table of them."""
    folder.mkdir(parents=True)
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for _ in pool.imap_unordered(partial(write_file, folder=folder, kind=kind, size=size), range(images), chunksize=16):
            pass
    lines = [f"{k:06d}.{ENDINGS[kind]},p{k // 2}" for k in range(images)]
    (folder.parent / f"{kind}.csv").write_text("\n".join(["image,patient", *lines]) + "\n")


def decode_and_hash(path: Path, kind: str) -> str:
    """What any preparation has to do with a file: read it once, SHA-256, decoded pixels."""
    data = path.read_bytes()
    if kind == "png":
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            np.asarray(picture)
    else:
        import pydicom

        assert pydicom.dcmread(io.BytesIO(data)).pixel_array.size
    return hashlib.sha256(data).hexdigest()


def decode_hash_write(paths: tuple[Path, Path]) -> str:
    """The same, and the stored bytes of the pixels written to a second path, as many as the file there has, and flushed."""
    import pydicom

    source, target = paths
    data, size = source.read_bytes(), target.stat().st_size
    pixels = pydicom.dcmread(io.BytesIO(data)).pixel_array
    with target.open("wb") as file:
        file.write(pixels.tobytes()[:size].ljust(size, b"."))
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def plain_and_written(folder: Path, out: Path, workers: int) -> None:
    """Decode and hash all files of a folder, and write over the images of a set."""
    pairs = list(zip(sorted(folder.glob("*.dcm")), sorted((out / "images").glob("*.png")), strict=True))
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        assert len(set(pool.imap_unordered(decode_hash_write, pairs, chunksize=16))) == len(pairs)


def plain(folder: Path, kind: str, workers: int) -> None:
    """Decode and hash all files of a folder."""
    paths = sorted(folder.glob(f"*.{ENDINGS[kind]}"))
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        assert len(set(pool.imap_unordered(partial(decode_and_hash, kind=kind), paths, chunksize=16))) == len(paths)


def command(folder: Path, out: Path, kind: str, workers: int, compare: bool = False) -> list[str]:
    """The command line that prepares a folder; compare: near copies are looked for., text not in small sets (FEW)."""
    common = [*["--skip-near-copies"] * (not compare), "--workers", str(workers)]
    common += ["--look-for-text", "none"] * (len(os.listdir(folder)) < FEW)
    if kind == "png":
        return ["prepare", "table", str(folder.parent / f"{kind}.csv"), str(out), "--root", str(folder), "--subject", "patient", *common]
    return ["prepare", "dicom", str(folder), str(out), "--intensity", "0", "4095", *common]


def prepare(folder: Path, out: Path, kind: str, workers: int, compare: bool = False) -> None:
    """Make the set."""
    with contextlib.redirect_stdout(io.StringIO()):
        if synthrad(command(folder, out, kind, workers, compare)):
            raise RuntimeError(f"prepare of {folder} failed")


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock and of all cores."""
    def spent() -> float:
        return sum(t for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN) for t in resource.getrusage(who)[:2])

    begun, before = time.monotonic(), spent()
    work()
    return time.monotonic() - begun, spent() - before


def resumed(folder: Path, out: Path, kind: str, workers: int, seconds: float) -> tuple[float, bool]:
    """Seconds of the command that goes on after one was killed at half of its time, and whether the set has the bytes of `out`."""
    again = out.with_name("killed")
    child = multiprocessing.get_context("fork").Process(target=prepare, args=(folder, again, kind, workers))
    child.start()
    child.join(seconds / 2)
    child.kill()
    child.join()
    time.sleep(2)  # its forks see that it is gone
    took, _ = timed(lambda: prepare(folder, again, kind, workers))
    files = [p.relative_to(out) for p in out.rglob("*") if p.is_file() and not p.name.startswith(".")]
    same = all((again / f).read_bytes() == (out / f).read_bytes() for f in files)
    shutil.rmtree(again)
    return took, same


def measure(base: Path, kind: str, args: argparse.Namespace) -> dict:
    """The line of a kind."""
    folder, out = base / kind, base / "out"
    draw(folder, kind, args.images, args.size, args.workers)
    stored = kind != "png"
    work = {"plain": lambda: plain(folder, kind, args.workers), "ours": lambda: prepare(folder, out, kind, args.workers),
            **({"written": lambda: plain_and_written(folder, out, args.workers)} if stored else {}),
            "compared": lambda: prepare(folder, base / "compared", kind, args.workers, compare=True)}
    work["plain"]()  # all find the files in memory, as far as it holds them
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for turn in range(args.rounds):
        for name in list(work)[:: 1 if turn % 2 == 0 or "written" in work else -1]:  # what is written over is there before
            for made in {"ours": [out], "compared": [base / "compared"]}.get(name, []):
                shutil.rmtree(made, ignore_errors=True)
            times[name].append(timed(work[name]))
        size = sum(p.stat().st_size for p in (out / "images").rglob("*.png"))
        shutil.rmtree(base / "compared")
    middle = statistics.median
    over = lambda a, b, of=0: [x[of] / y[of] for x, y in zip(times[a], times[b], strict=True)]  # noqa: E731
    if stored:  # its images were written over
        prepare(folder, out, kind, args.workers)
    seconds = middle(t for t, _ in times["ours"])
    took, same = resumed(folder, out, kind, args.workers, seconds)
    found = {"bench": "prepare", "kind": kind, "images": args.images, "size": args.size, "workers": args.workers, "rounds": args.rounds,
             "over_decoding": middle(over("ours", "plain")), "over_decoding_most": max(over("ours", "plain")), "cpu_over_decoding": middle(over("ours", "plain", 1)),
             "over_decoding_and_writing": middle(over("ours", "written")) if stored else None,
             "with_near_copies_over_decoding": middle(over("compared", "plain")), "written_over_source_bytes": size / sum(p.stat().st_size for p in folder.iterdir()),
             "seconds": seconds, "decoding_seconds": middle(t for t, _ in times["plain"]), "cores_used": middle(c / t for t, c in times["ours"]),
             "resumed_over_whole": took / seconds, "resumed_same_bytes": same}
    shutil.rmtree(folder)
    shutil.rmtree(out)
    return found


def record(line: dict) -> None:
    """Append a line to the results."""
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


def comparison(number: int) -> dict:
    """The line of a search for near copies among so many pictures of 64 px, each of a patient of its own; decoding is not in it."""
    from synthrad.data.near_copies import near_copies, picture_of

    rng = np.random.default_rng(0)
    common, soft = picture(0, 64).astype(np.float32), lambda: Image.fromarray(rng.normal(size=(10, 10)).astype(np.float32)).resize((64, 64), Image.Resampling.BICUBIC)
    pictures = np.stack([picture_of([common + 500 * np.asarray(soft())]) for _ in range(number)])
    seconds, cpu = timed(lambda: near_copies(pictures, range(number)))
    return {"bench": "near_copies", "images": number, "size": 64, "seconds": seconds, "cpu_seconds": cpu}


def main() -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--images", type=int, default=10_000)
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--compare", type=int, nargs="?", const=10_000, default=0, metavar="N", help="only time the search for near copies, among N pictures of 64 px (default: 10,000)")
    p.add_argument("--kinds", nargs="+", choices=list(ENDINGS), default=list(ENDINGS))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--workers", type=int, default=cores(), help="processes of either (default: one a core)")
    p.add_argument("--folder", help="where the temporary folder lies (default: the system's): 512 px need some 12 GB for 10,000 DICOMs")
    p.add_argument("--note", default="", help="words for the line, e.g. what kind of disk the folder lies on")
    p.add_argument("--dry-run", action="store_true", help="write no results")
    args = p.parse_args()
    stamp = {"date": date.today().isoformat(), "device": processor(), "cores": cores(), "pillow": version("pillow"), "pydicom": version("pydicom"),
             "numpy": version("numpy"), "synthrad": version("synthrad"), "zlib_ng": png.deflate is not zlib, "text_looked_for": args.images >= FEW, "note": args.note}
    if args.compare:
        line = comparison(args.compare) | stamp
        if not args.dry_run:
            record(line)
        print(f"near_copies_{args.compare}_seconds {line['seconds']:.1f} <={MOST_SECONDS} {'met' if line['seconds'] <= MOST_SECONDS else 'short'}")
        return 0
    for kind in args.kinds:
        with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
            line = measure(Path(temporary), kind, args) | stamp
        if not args.dry_run:
            record(line)
        ratio, same = line["over_decoding"], line["resumed_same_bytes"]
        print(f"prepare_{kind}_over_decoding {ratio:.2f} <={MOST} {'met' if ratio <= MOST else 'short'}")
        print(f"prepare_{kind}_resumed_same_bytes {same:d} >=1 {'met' if same else 'short'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
