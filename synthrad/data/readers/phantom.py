"""Reader that draws: procedural panoramic radiographs, and synthetic sets of them with a dialled effect."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from synthrad.errors import InputError

if TYPE_CHECKING:
    from synthrad.records import Manifest

DESCRIPTION = (
    "draw panoramic dental radiographs with teeth, findings, sex and age; or a synthetic set of known effect"
)
DRAWN = True  # patients are distinct by construction: no spelling and no copy to look for
EFFECTS = ("good", "biased", "label_noise", "useless", "copies")
REAL_ONLY = {
    "size": [64, 128],
    "fractions": [0.55, 0.1, 0.1, 0.25],
    "images_per_subject": 1.25,
    "tooth_classes": "binary",
}
DIALLED_ONLY = {"like": None, "conditions": "real", "noise_rate": 0.4}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """OUT and the options."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument("--number", type=int, default=300, help="images (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same set (default: 0)")
    real = parser.add_argument_group("phantoms that play the real images")
    real.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="pixels (default: 64 128)"
    )
    real.add_argument(
        "--fractions",
        type=float,
        nargs=4,
        metavar=("TRAIN", "VAL", "AUDIT", "TEST"),
        help="shares of the splits, by subject, stratified (default: 0.55 0.1 0.1 0.25)",
    )
    real.add_argument("--images-per-subject", type=float, metavar="MEAN", help="from 1 to 2 (default: 1.25)")
    real.add_argument(
        "--tooth-classes",
        choices=("binary", "fdi"),
        help="structures of the tooth layer: tooth, or FDI numbers 11 to 48 (default: binary)",
    )
    dialled = parser.add_argument_group("phantoms that play synthetic images")
    dialled.add_argument("--synthetic", choices=EFFECTS, help="the effect that the set is known to have")
    dialled.add_argument("--like", type=Path, metavar="REAL", help="manifest folder of the real phantoms")
    dialled.add_argument(
        "--conditions",
        choices=("real", "uniform"),
        help="label combinations as often as in training, or each equally often (default: real)",
    )
    dialled.add_argument(
        "--noise-rate",
        type=float,
        metavar="SHARE",
        help="share of images that label_noise spoils (default: 0.4)",
    )


def read(root: Path | None, out: Path, args: argparse.Namespace) -> Manifest:
    """Draw the set that the options ask for (there is no root: nothing is read).

    Raises:
        InputError: options of the other kind of set, or values out of range.
    """
    from synthrad.data.phantom import draw_dialled, write_phantoms
    from synthrad.records import Manifest

    dialled = args.synthetic is not None
    for name in REAL_ONLY if dialled else DIALLED_ONLY:
        if getattr(args, name) is not None:
            kind = "a set with --synthetic (it follows --like)" if dialled else "a set without --synthetic"
            raise InputError(f"--{name.replace('_', '-')}", f"given for {kind}", "it left out")
    chosen = {
        k: v if getattr(args, k) is None else getattr(args, k) for k, v in (REAL_ONLY | DIALLED_ONLY).items()
    }
    if not dialled:
        return write_phantoms(
            out,
            args.number,
            tuple(chosen["size"]),
            args.seed,
            fractions=chosen["fractions"],
            images_per_subject=chosen["images_per_subject"],
            tooth_classes=chosen["tooth_classes"],
        )
    if args.like is None:
        raise InputError(
            "--like", "nothing", "the manifest folder of the real phantoms that the set is drawn for"
        )
    if args.noise_rate is not None and args.synthetic != "label_noise":
        raise InputError(
            "--noise-rate", f"given for {args.synthetic}", "it left out; it belongs to label_noise"
        )
    return draw_dialled(
        Manifest.read(args.like),
        out,
        args.number,
        args.synthetic,
        args.seed,
        chosen["conditions"],
        rate=chosen["noise_rate"],
    )
