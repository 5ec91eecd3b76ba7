"""`synthrad prepare export MANIFEST OUT --to FORMAT`: a set in formats that other programs read."""

from __future__ import annotations

import argparse
from pathlib import Path

from synthrad.errors import InputError
from synthrad.records import Manifest

DESCRIPTION = "write a set as Croissant, COCO or (synthetic sets) DICOM; subjects become keyed hashes, pixels plain PNGs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("manifest", metavar="MANIFEST", help="folder of a set, real or synthetic")
    parser.add_argument("out", metavar="OUT", help="a new folder")
    parser.add_argument("--to", required=True, choices=("croissant", "coco", "dicom"), help="dicom: synthetic sets only; secondary captures that say "
                        "so in the standard's attributes, new UIDs, masks as DICOM SEG")
    parser.add_argument("--parts", action="store_true", help="coco: each connected part of a structure is an instance")


def run(args: argparse.Namespace) -> int:
    """Export, and print what was written.

    Raises:
        InputError: an option that the format does not have, or a set that it cannot hold.
    """
    from synthrad.dataset import coco_instances, croissant, dicom_objects

    if args.parts and args.to != "coco":
        raise InputError("--parts", f"--to {args.to}", "--to coco")
    manifest = Manifest.read(args.manifest)
    if args.to == "coco":
        written = coco_instances.export(manifest, args.out, args.parts)
    else:
        written = {"croissant": croissant, "dicom": dicom_objects}[args.to].export(manifest, args.out)
    names = ", ".join(map(str, written)) if isinstance(written, list) and len(written) < 6 else str(args.out)
    print(f"{len(manifest)} images of {manifest.info.name} as {args.to}")
    if args.to == "coco" and (unknown := coco_instances.without_masks(manifest)):
        print(f"  {unknown} of them are in images/ and records.csv only: none of their masks is known, and COCO would say that nothing is there")
    print(f"wrote {names if args.to == 'coco' else Path(args.out)}")
    if (manifest.column("source") == "real").any():
        print("  these are images of patients: an export is no de-identification")
    else:
        print("  before it is shared: `synthrad audit ... --gate`, and `synthrad card`")
    return 0
