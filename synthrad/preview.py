"""Pictures that `synthrad sample` draws to be looked at: a sheet of classes, a sheet of truncations, a walk between images."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from synthrad.conditioning import Images
from synthrad.data.conditions import to_condition
from synthrad.data.sheets import Block, Panel, animation, class_sheet, pictures, png, sheet
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.records import Manifest

NUMBERS = {"truncations": 8, "walk": 5}  # images by default
MOST = 1000  # panels or frames of a file: beyond it nobody looks, and memory ends
WIDEST = 12  # images in a row of a sheet of truncations
MOVING = (".gif", ".webp")


def kind_of(args: argparse.Namespace) -> str:
    """What a command line asks for: set (perhaps with its sheet), truncations or walk.

    Raises:
        InputError: flags that do not go together, or that would be ignored.
    """
    walk, several = args.interpolate is not None, len(args.truncation) > 1
    if walk:
        suffix = _suffix("--interpolate", args.interpolate, (".png", *MOVING))
        for flag, given in (("--out", args.out), ("--sheet", args.sheet)):
            if given is not None:
                raise InputError("--interpolate", f"also {flag}", "one or the other: a walk is no set", f"leave {flag} out")
        if several:
            raise InputError("--truncation", f"{len(args.truncation)} values", "one, for --interpolate")
        if args.fps is not None and suffix not in MOVING:
            raise InputError("--fps", f"{args.fps:g} for a strip", "a file that moves: .gif or .webp", "leave --fps out")
        if args.steps is not None and args.steps < 1:
            raise InputError("--steps", str(args.steps), "at least 1")
        if args.fps is not None and not 0 < args.fps <= 50:
            raise InputError("--fps", f"{args.fps:g}", "above 0 and at most 50")
        return "walk"
    for name in ("steps", "fps"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name}", "no --interpolate", "--interpolate FILE beside it", f"leave --{name} out")
    if args.sheet is not None:
        _suffix("--sheet", args.sheet, (".png",))
    if args.out is not None:
        if several:
            raise InputError("--truncation", f"{len(args.truncation)} values for a set", "one",
                             "leave --out out to see them side by side in --sheet, then draw the set with the one you like")
        if args.sheet is not None and Path(args.out).resolve() in Path(args.sheet).resolve().parents:
            raise InputError("--sheet", f"{args.sheet}, inside the set's folder", "a file elsewhere: that folder is the set's",
                             f"for instance {Path(args.out)}.png")
        return "set"
    if args.sheet is not None and several:
        return "truncations"
    raise InputError("--out", "nothing", "the folder of the set, or what to draw instead of one: --interpolate FILE, or "
                     "--sheet FILE.png with several values of --truncation", "add --out FOLDER")


def write_class_sheet(path: str, made: Manifest) -> None:
    """The sheet of a finished set, and where it is."""
    _write(path, png(class_sheet(made)))


def write_truncation_sheet(path: str, draw: Callable[[Sequence[int], float], Images], conditions: pd.DataFrame,
                           truncations: Sequence[float], block_size: int, info: DatasetInfo, layers: Sequence[str]) -> None:
    """A block a truncation, a column an image of the set (up to WIDEST): to choose a truncation by eye.

    Args:
        draw: image numbers and truncation to images; it pads numbers beyond the last.
        conditions: a whole table. block_size: images drawn together, as for the set. layers: of the drawn masks.
    """
    n = len(conditions)
    _check_most(n * len(truncations), "--number")
    names = [f"{k:06d}  {_asked(conditions, k)}" for k in range(n)]
    blocks, counts = [], [len(info.layers[x]) for x in layers]
    for psi in truncations:
        drawn = [pictures(draw(range(k, k + block_size), psi), counts) for k in range(0, n, block_size)]
        shown = [p for block in drawn for p in block][:n]
        blocks.append(Block(f"truncation {psi:g}", [Panel(*pair) for pair in zip(shown, names, strict=True)]))
    heading = f"{info.name}: the same {n} images at {len(truncations)} truncations"
    _write(path, png(sheet(heading, blocks, min(n, WIDEST), _named(info, layers))))


def write_walk(path: str, generator: Any, conditions: pd.DataFrame, seeds: Sequence[int], truncation: float, info: DatasetInfo,
               steps: int | None, fps: float | None, batch: int) -> None:
    """From image to image of a set: a strip with one row a stretch, or an animation that returns to the first image.

    Args:
        generator: see generators.interpolation.check_latent_path. conditions: a whole table. seeds: of the images.
        steps: pictures a stretch, fps: a second; None = the defaults. batch: pictures drawn together.
    """
    from synthrad.generators.interpolation import check_latent_path, count_frames, walk

    check_latent_path(generator)
    n, moves = len(conditions), Path(path).suffix.lower() in MOVING
    if n < 2:
        raise InputError("--number", f"{n} image", "at least 2 to go from one to the next")
    steps = steps or (24 if moves else 8)
    _check_most(count_frames(n, steps, moves), "--number")
    layers = list(generator.spec["layers"])
    counts = [len(info.layers[x]) for x in layers]
    parts = walk(generator, to_condition(conditions, info), seeds, steps, truncation, moves, batch)
    frames = [p for part in parts for p in pictures(part, counts, upright=not moves)]
    if moves:
        return _write(path, animation(frames, fps or 12.0, Path(path).suffix.lower()))
    names = [f"image {k} ({text})" if (text := _asked(conditions, k)) else f"image {k}" for k in range(n)]
    blocks = [Block(f"{names[i]} to {names[i + 1]}", [Panel(f) for f in frames[i * steps : (i + 1) * steps + 1]])
              for i in range(n - 1)]
    heading = f"{info.name}: from image to image, truncation {truncation:g}"
    _write(path, png(sheet(heading, blocks, steps + 1, _named(info, layers))))


def _asked(conditions: pd.DataFrame, k: int) -> str:
    """The classes that an image was asked to show, and its attributes: short enough for a caption."""
    row = conditions.iloc[k]
    values = [c[6:] if c.startswith("label:") else str(v) for c, v in row.items() if v == 1 or (c.startswith("attribute:") and v)]
    return ", ".join(values)


def _named(info: DatasetInfo, layers: Sequence[str]) -> dict[str, Sequence[str]]:
    return {x: info.layers[x] for x in layers}


def _suffix(flag: str, path: str, known: Sequence[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        raise InputError(flag, path, f"a file name that ends in {' or '.join(known)}")
    if suffix == ".webp":
        from PIL import features

        if not features.check("webp"):
            raise InputError(flag, path, "a Pillow that can write WebP", "give a .gif, or reinstall Pillow from its wheel")
    return suffix


def _check_most(number: int, flag: str) -> None:
    if number > MOST:
        raise InputError(flag, f"{number} pictures", f"at most {MOST} in one file", f"lower {flag}, or name fewer conditions")


def _write(path: str, data: bytes) -> None:
    write_durably(path, data)
    print(f"wrote {path}")
