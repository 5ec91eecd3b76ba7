"""`synthrad prepare`: turn a dataset on disk into a manifest. Each file of data/readers/ is a subcommand."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np

from synthrad.data.leaks import Copies, add_leak_options, read_copies
from synthrad.errors import naming
from synthrad.manifest_table import SPLITS
from synthrad.records import Manifest

READERS = Path(__file__).parent / "data" / "readers"
COMMANDS = ("check", "export")  # of synthrad.dataset: what is done with a manifest that is there
MOST = 10  # pairs of near copies printed
LOOKED_AT = 100  # images in which text is looked for by default
FEW = 10  # subjects: a generator counts a value of fewer as unknown
MOST_VALUES = 10  # of an attribute of numbers, before it is asked whether they should be groups


def readers() -> dict[str, ModuleType]:
    """Name -> module of each reader, by listing the folder; none imports torch or pandas at its top."""
    names = sorted(p.stem for p in READERS.glob("*.py") if not p.stem.startswith("_"))
    return {n: importlib.import_module(f"synthrad.data.readers.{n}") for n in names}


def parser() -> argparse.ArgumentParser:
    """The command line: one subcommand a reader."""
    made = argparse.ArgumentParser(
        prog="synthrad prepare",
        description="Read a dataset, check every image and mask, split it by subject, and write a manifest folder.",
        epilog="`synthrad prepare READER --help` lists the options of each; check and export take what a reader wrote.",
    )
    commands = made.add_subparsers(dest="reader", metavar="READER", required=True)
    for name, module in readers().items():
        command = commands.add_parser(name, help=module.DESCRIPTION, description=module.DESCRIPTION)
        if not getattr(module, "DRAWN", False):
            add_leak_options(command)
            command.add_argument(
                "--look-for-text",
                choices=("none", "some", "all"),
                default="some",
                help=f"look for rows of letters burned into the images (names, dates): in {LOOKED_AT} of them, or all (default: some)",
            )
        module.add_arguments(command)
        command.set_defaults(module=module)
    for name in COMMANDS:
        module = importlib.import_module(f"synthrad.dataset.{name}")
        command = commands.add_parser(name, help=module.DESCRIPTION, description=module.DESCRIPTION)
        module.add_arguments(command)
        command.set_defaults(module=module)
    return made


def run(argv: list[str]) -> int:
    """Read, write, and print what was found."""
    args = parser().parse_args(argv)
    if args.reader in COMMANDS:
        return args.module.run(args)
    with naming(args.out):
        manifest = args.module.read(getattr(args, "root", None), args.out, args)
    lines = [*summary(manifest), *warnings(manifest, args), *same_pictures(manifest)]
    if not getattr(args, "skip_near_copies", True) and (manifest.column("source") == "real").all():
        lines += near_copy_lines(manifest, read_copies(args.out))
    if getattr(args, "look_for_text", "none") != "none" and (manifest.column("source") == "real").all():
        lines += burned_in_lines(manifest, LOOKED_AT if args.look_for_text == "some" else len(manifest), getattr(args, "workers", None))
    print("\n".join([*lines, f"wrote {args.out}"]))
    return 0


def summary(manifest: Manifest) -> list[str]:
    """Rows and subjects of each split, then positives among the known of each label and structure."""
    info, splits = manifest.info, manifest.column("split")
    subjects = manifest.column("subject")
    shown = [s for s in SPLITS if (splits == s).any()]
    head = f"{info.name}: {len(manifest)} images of {len(set(subjects))} subjects"
    lines = [
        head,
        "  " + "  ".join(f"{s} {(splits == s).sum()} ({len(set(subjects[splits == s]))})" for s in shown),
    ]
    facts = [(f"label {c}", manifest.labels[:, k]) for k, c in enumerate(info.classes)]
    for layer, structures in info.layers.items():
        known = manifest.column(f"mask:{layer}") != ""
        lines.append(
            f"  layer {layer}: {len(structures)} structure(s), {known.sum()} of {len(manifest)} images have a mask"
        )
        for s in structures:
            area = manifest.column(f"area:{layer}/{s}")
            facts.append((f"{layer}/{s}", np.where(np.isnan(area), np.nan, area > 0)))
    for name, values in facts:
        parts = [
            f"{s} {int(np.nansum(values[splits == s]))}/{int((~np.isnan(values[splits == s])).sum())}"
            for s in shown
        ]
        lines.append(f"  {name:<32} " + "  ".join(parts))
    if origin := ("" if not info.lineage.fitted else info.lineage.origin):
        lines.append(f"  synthetic; what its generator was trained on is {origin}")
    return lines


def warnings(manifest: Manifest, args: argparse.Namespace) -> list[str]:
    """Lines on real sets that no study can use, or whose images may not be as independent as they seem."""
    import pandas as pd

    if (manifest.column("source") != "real").any():
        return []
    splits = set(manifest.column("split"))
    empty = [s for s in ("train", "val", "test") if s not in splits]
    lines = [f"  warning: no row in {' and '.join(empty)}: no study can run on this set"] if empty else []
    if getattr(args, "subject", "named") is None:
        option = "--subject" if args.reader == "table" else "--subject-pattern"
        lines.append(
            f"  warning: no {option}: each image counts as a patient of its own; "
            "two images of one patient may fall into train and test, and intervals are too narrow"
        )
    for name in manifest.info.attributes:
        if name == "age" and "age_band" in manifest.info.attributes:
            continue
        told = pd.DataFrame({"value": manifest.column(f"attribute:{name}"), "subject": manifest.column("subject")})
        told = told[(told["value"] != "") & (manifest.column("split") == "train")]
        sizes = told.groupby("value")["subject"].nunique()
        if len(sizes) > MOST_VALUES and (sizes < FEW).mean() > 0.5 and pd.to_numeric(sizes.index, errors="coerce").notna().all():
            lines.append(
                f"  warning: attribute {name} holds {len(sizes)} different numbers, most of them of fewer than {FEW} training "
                "subjects: too few to teach or to balance; make groups of them first (of an age: --age-bands 40 60)"
            )
    return lines


def same_pictures(manifest: Manifest) -> list[str]:
    """A line for each picture that is there under two subjects."""
    owners: dict[str, dict[str, int]] = {}
    subjects = manifest.column("subject")
    for row, digest in enumerate(manifest.column("digest")):
        if digest:
            owners.setdefault(digest, {}).setdefault(subjects[row], row)
    twice = [rows for rows in owners.values() if len(rows) > 1]
    lines = (
        [f"  warning: the same picture under {len(twice)} pair(s) of subjects; they share a split (rows of manifest.csv)"]
        if twice
        else []
    )
    return lines + [
        f"    {' = '.join(f'{s} (row {r + 2})' for s, r in rows.items())}" for rows in twice[:MOST]
    ]


def near_copy_lines(manifest: Manifest, copies: Copies) -> list[str]:
    """Lines on pictures that look alike under different subjects, those that cross splits first."""
    subjects, splits = manifest.column("subject"), manifest.column("split")
    crossing = [p for p in copies.pairs if splits[p[0]] != splits[p[1]]]
    if not copies.pairs:
        return ["  near copies under two subjects: none"]
    kept = f"{len(crossing)} of them cross splits" if crossing else "each in one split"
    lines = [
        f"  warning: {len(copies.pairs)} pair(s) of near copies under two subjects, {kept}; "
        "look at them, and give both one subject if they are one picture (rows of manifest.csv)"
    ]
    for i, j, likeness in (crossing or copies.pairs)[:MOST]:
        lines.append(
            f"    row {i + 2} {subjects[i]} ({splits[i]})  ~  row {j + 2} {subjects[j]} ({splits[j]})  likeness {likeness:.3f}"
        )
    return lines


def burned_in_lines(manifest: Manifest, number: int, workers: int | None = None) -> list[str]:
    """Lines on images with rows of letters in them, which may be names, among `number` evenly spread ones; workers: processes (None: one a core)."""
    from synthrad.data.burned_in import find_text
    from synthrad.data.images import read_image
    from synthrad.data.processes import cores, shared_out
    from synthrad.progress import progress

    looked = np.unique(np.linspace(0, len(manifest) - 1, min(number, len(manifest))).round().astype(int)).tolist()
    look = lambda i: [i, any(find_text(read_image(p)) for p in manifest[i].channels)]  # noqa: E731
    shared = progress(shared_out(look, looked, workers or cores()), desc="looking for text", total=len(looked), unit="image")
    found = sorted(i for i, text in shared if text)
    if not found:
        return []
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    among = "" if len(looked) == len(manifest) else f" of {len(looked)} looked at (--look-for-text all looks at every one)"
    return [
        f"  warning: {len(found)} image(s){among} with what looks like text in the pixels: rows {', '.join(str(i + 2) for i in found[:MOST])}{more} "
        "of manifest.csv; look at them: a name or a date would be learned and drawn again (teeth with brackets can look like text)"
    ]
