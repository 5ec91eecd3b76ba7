"""`synthrad sample`: draw a synthetic set from a trained generator.

Images are computed in fixed blocks (the last one padded) and the noise of each image comes from its own seed alone, so
that a set that was killed and resumed, or made on more devices, has the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthrad.blocks import FOLDER as BLOCKS
from synthrad.blocks import LOCK, Blocks, Rows, Share
from synthrad.conditioning import Condition, Generator, Images
from synthrad.data.conditions import (
    TEXT,
    blank_unlearned,
    complete,
    condition_text,
    read_conditions,
    to_condition,
    with_prompts,
)
from synthrad.data.mask_conditions import MaskConditions, mask_conditions
from synthrad.data.mask_moves import TRANSFORMS
from synthrad.data.start_images import STARTS, StartImages, region_of, start_images, with_structure
from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.errors import InputError, RunError
from synthrad.files import file_digest, read_facts, write_durably
from synthrad.generators.loading import check_same_dataset, load_generator, wanted_layers
from synthrad.lineage import Lineage
from synthrad.locking import locked
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest

MARK = "sampling.json"  # settings of the set, written first
BEGIN_SECONDS = 600.0  # for the first of several processes: nodes start apart
ALONE = Share()


def image_seed(seed: int, k: int) -> int:
    """Seed of image k of a set: sets of neighbouring seeds share no image."""
    return int(np.random.SeedSequence([seed, k]).generate_state(1, np.uint64)[0] >> 1)


# ---- drawing


def sample_set(generator: Generator, checkpoint: Path | str, conditions: pd.DataFrame, seed: int, out: Path | str,
               info: DatasetInfo, lineage: Lineage, block_size: int = 16, truncation: float = 1.0,
               masks: MaskConditions | None = None, starts: StartImages | None = None, share: Share = ALONE) -> Manifest | None:
    """Draw one image a row of `conditions` into a manifest folder; a killed call continues where it stopped.

    Args:
        generator: with sample(condition, seeds, truncation).
        checkpoint: its file: part of the set's identity.
        conditions: columns label:<class> and attribute:<name>; an absent column is unknown.
        seed: image k draws all its noise from image_seed(seed, k).
        info: of the real dataset. lineage: of the generator.
        block_size: images computed together; another size may move a pixel by one grey level.
        truncation: 1 = as trained, less = closer to the mean picture.
        masks: those to draw from, one a row, for a generator that wants masks; they become the masks of the set.
        starts: real images to start from, one a row, for a diffusion model.
        share: of several processes, which one this is. All are called alike; the first one ends the set.

    Returns:
        the synthetic manifest, read back from `out`; None on a process other than the first, which ends when nothing is left to draw.

    Raises:
        InputError: `out` holds another set, truncation is not in (0, 1], or a class that the generator never saw is asked for.
        RunError: another process is writing `out`, or the first of several did not begin.
    """
    from synthrad.generators.preflight import check_asked  # loads torch

    _check_truncation(truncation)
    if truncation != 1 and not getattr(generator, "takes_truncation", True):
        raise InputError("--truncation", str(truncation), f"1 for a {type(generator).__name__}, which has no mean picture",
                         "leave it out; --guidance above 1 trades variety for what was asked")
    if masks is None and getattr(generator, "wants_masks", False):
        raise InputError("masks", "none", "MaskConditions: this generator draws from masks", "make them by mask_conditions()")
    out = Path(out).resolve()
    conditions = complete(conditions, info)
    labels = conditions[[f"label:{c}" for c in info.classes]].to_numpy(dtype=float)
    check_asked(Condition(labels=labels), getattr(generator, "spec", {}))  # all of them, while nothing is written yet
    if TEXT in conditions:
        generator.check_prompts(list(conditions[TEXT]))
    settings = {"checkpoint": file_digest(checkpoint), "seed": seed, "truncation": truncation, "block_size": block_size,
                "rows": len(conditions), "conditions": hashlib.sha256(conditions.to_csv(index=False).encode()).hexdigest()}
    drawing = getattr(generator, "drawing", {})  # of a diffusion model
    settings |= drawing
    if masks is not None:
        settings |= masks.identity
        lineage = lineage + masks.lineage
    if starts is not None:
        settings |= starts.identity
        lineage = lineage + starts.lineage
    lineage = replace(lineage, settings={**lineage.settings, "seed": seed, "block_size": block_size,
                                         "dtype": "float32", "truncation": truncation, **drawing})
    if (out / "dataset.yaml").is_file() and not (out / BLOCKS).exists() and read_facts(out / MARK) == settings:
        return None if share.rank else Manifest.read(out)  # nothing is written
    blocks = Blocks(out, range(0, len(conditions), block_size), lambda start: _draw_block(
        generator, conditions, start, block_size, seed, truncation, out, info, masks, starts), share)
    number = f".{share.rank}" if share.rank else ""  # after the ending, where no name of a set collides; each has its lock; not in the set: a resumed one has the files of an uninterrupted one
    with locked(out.parent / f".{out.name}.lock{number}", "sample", out):
        if share.rank:
            if not _begun(out, settings):
                return None
            print(f"synthrad sample: process {share.rank} of {share.world} drew {blocks.help()} of {math.ceil(len(conditions) / block_size)} blocks")
            return None
        if not _is_finished(out, settings):
            blocks.begin()
            rows = _all(blocks, len(conditions))
            made = replace(info, name=f"{info.name} (synthetic)", roots={HERE: str(out)}, lineage=lineage)
            Manifest(_table(rows, conditions, seed, info, masks, starts), made).write(out)
            _drop_marks(out)
    return Manifest.read(out)


def _all(blocks: Blocks, images: int) -> Rows:
    """The rows of all blocks, drawn here or by other processes, with a bar."""
    from synthrad.progress import progress

    with progress(total=images, desc="sampling", unit="image") as bar:
        return blocks.all(bar.update)


def _begun(out: Path, settings: dict[str, Any]) -> bool:
    """On a process other than the first: wait until that has begun this very set; False where it is whole already.

    Raises:
        InputError: `out` holds another set. RunError: it did not begin, because it was refused or never started.
    """
    until = time.monotonic() + BEGIN_SECONDS
    while time.monotonic() < until:
        if (out / MARK).is_file():
            _check_same(out, settings)
            if (out / "dataset.yaml").is_file() or (out / BLOCKS / LOCK).is_file():
                return not (out / "dataset.yaml").is_file()
        time.sleep(0.1)
    raise RunError(f"sample: the first process has not begun {out} in {BEGIN_SECONDS:.0f} s; its message says why. The same command resumes. "
                   "If this process was to draw a set of its own, and srun or torchrun say otherwise, add --alone.")


def _check_same(out: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that was begun for another set."""
    if (found := json.loads((out / MARK).read_text())) != settings:
        differing = [k for k in {**settings, **found} if found.get(k) != settings.get(k)]
        raise InputError(str(out), f"a set with other {', '.join(differing)}", "an empty folder or the same set",
                         "choose another --out, or remove this folder")


def _is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Whether `out` holds this very set, whole; marks the folder as this set's otherwise."""
    mark = out / MARK
    if mark.is_file():
        _check_same(out, settings)
        _drop_drafts(out)
        if whole := (out / "dataset.yaml").is_file():  # written last; only the marks may be left of a kill after it
            _drop_marks(out)
        return whole
    _drop_drafts(out)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(str(out), "a folder with other files", "an empty or new folder", "choose another --out")
    write_durably(mark, json.dumps(settings, indent=1).encode())
    return False


def _drop_drafts(out: Path) -> None:
    """Remove what a kill left of half a write_durably: a resumed set has the files of an uninterrupted one."""
    for name in (MARK, "manifest.csv", "dataset.yaml"):
        for draft in out.glob(f".{name}.*"):
            draft.unlink()


def _drop_marks(out: Path) -> None:
    """Remove the marks of finished blocks, once the set is whole."""
    if (out / BLOCKS).is_dir():
        for mark in (out / BLOCKS).iterdir():
            mark.unlink()
        (out / BLOCKS).rmdir()


def draw(generator: Generator, conditions: pd.DataFrame, numbers: Sequence[int], seed: int, truncation: float,
         info: DatasetInfo, masks: MaskConditions | None = None, starts: StartImages | None = None) -> Images:
    """Images `numbers` of a set in one call; a number beyond the last row is padding that repeats the last condition."""
    rows = [min(k, len(conditions) - 1) for k in numbers]
    condition = to_condition(conditions.iloc[rows], info, None if masks is None else masks.batch(rows))
    condition = condition if starts is None else starts.under(condition, rows)
    drawn = generator.sample(condition, [image_seed(seed, k) for k in numbers], truncation=truncation)
    return drawn if masks is None else Images(drawn.image, condition.masks)


def _draw_block(generator: Generator, conditions: pd.DataFrame, start: int, size: int, seed: int, truncation: float,
                out: Path, info: DatasetInfo, masks: MaskConditions | None, starts: StartImages | None) -> Rows:
    """Draw rows start .. start + size (the last block padded) and write their files."""
    numbers = range(start, start + size)
    drawn = draw(generator, conditions, numbers, seed, truncation, info, masks, starts)
    names = list(getattr(generator, "spec", {}).get("layers", info.layers))
    return [_write_one(drawn, i, k, out, info, names) for i, k in enumerate(numbers) if k < len(conditions)]


def _write_one(drawn: Images, i: int, k: int, out: Path, info: DatasetInfo, layers: Sequence[str]) -> dict[str, Any]:
    """Write image i of a batch as number k; returns its files with digests, and its areas."""
    from PIL import Image

    from synthrad.data.images import write_mask

    files, areas = {}, {}
    low, high = info.intensity["low"], info.intensity["high"]
    values = (drawn.image[i].double().cpu().numpy() + 1) / 2 * (high - low) + low
    dtype = np.uint16 if high > 255 else np.uint8
    for channel, array in zip(info.channels, values, strict=True):
        path = f"images/{channel}/{k:06d}.png"
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.round().clip(0, np.iinfo(dtype).max).astype(dtype)).save(out / path, format="PNG")
        files[path] = ""
    masks = [] if drawn.masks is None else drawn.masks[i].cpu().numpy()
    for layer, mask in zip(layers if len(masks) else [], masks, strict=True):
        path = f"masks/{layer}/{k:06d}.png"
        write_mask(out / path, mask.astype(np.uint8))
        files[path] = ""
        areas |= {f"{layer}/{s}": float((mask == j + 1).mean()) for j, s in enumerate(info.layers[layer])}
    for path in files:
        with open(out / path, "rb") as f:
            try:
                os.fsync(f.fileno())
            except OSError as e:
                e.filename = str(out / path)  # a full disk: say where
                raise
        files[path] = file_digest(out / path)
    return {"files": files, "areas": areas}


def _table(blocks: Sequence[Mapping[str, Any]], conditions: pd.DataFrame, seed: int, info: DatasetInfo,
           masks: MaskConditions | None, starts: StartImages | None) -> pd.DataFrame:
    """The rows of the synthetic manifest; origin:mask is the digest of the mask drawn from, or joint, origin:start of the image."""
    columns = empty_columns(info, len(blocks))
    columns |= {c: conditions[c].to_numpy() for c in conditions if c != TEXT}
    columns["split"][:], columns["source"][:] = "train", "synthetic"
    columns |= {f"origin:{x}": np.full(len(blocks), "", dtype=object) for x in ("seed", "condition", "mask")}
    if starts is not None:
        columns["origin:start"] = np.array(starts.digests, dtype=object)
    if TEXT in conditions:  # a report of a patient is not repeated: its hash tells equal prompts
        columns["origin:prompt"] = np.array([hashlib.sha256(p.encode()).hexdigest()[:16] if p else "" for p in conditions[TEXT]], dtype=object)
    for k, block in enumerate(blocks):
        paths = {tuple(Path(p).parts[:2]): p for p in block["files"]}
        columns["subject"][k] = f"synthetic-{k:06d}"
        columns["origin:seed"][k] = str(image_seed(seed, k))
        columns["origin:condition"][k] = condition_text(conditions.iloc[k])
        for channel in info.channels:
            columns[f"channel:{channel}"][k] = paths["images", channel]
        for layer in info.layers:
            columns[f"mask:{layer}"][k] = paths.get(("masks", layer), "")
            if ("masks", layer) in paths:
                columns["origin:mask"][k] = "joint" if masks is None else masks.digests[k]
        columns["digest"][k] = _joined([block["files"][columns[f"channel:{c}"][k]] for c in info.channels])
        columns["mask_digest"][k] = _joined([block["files"].get(columns[f"mask:{x}"][k], "") for x in info.layers])
        for name, area in block["areas"].items():
            columns[f"area:{name}"][k] = area
    return pd.DataFrame(columns)


def _joined(digests: Sequence[str]) -> str:
    """One digest a row, by the rule of data.images.files_digest."""
    if len(digests) == 1 or not any(digests):
        return digests[0] if digests else ""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _check_truncation(truncation: float) -> None:
    if not 0 < truncation <= 1:
        raise InputError("--truncation", str(truncation), "a number above 0 and at most 1 (1 = as trained)")


def sample_from_checkpoint(checkpoint: Path | str, conditions: pd.DataFrame, seed: int, out: Path | str,
                           block_size: int = 16, truncation: float = 1.0, device: str = "auto",
                           real: Manifest | None = None, mask_transform: str = "none") -> Manifest:
    """sample_set with the generator, info and lineage of a checkpoint.

    Args:
        real: manifest of the real images, for a generator that draws from masks.
        mask_transform: see data.mask_conditions.mask_conditions.
    """
    loaded = load_generator(checkpoint)
    generator, conditions, masks = _ready(loaded, str(checkpoint), conditions, seed, device, real, mask_transform)
    return sample_set(generator, checkpoint, conditions, seed, out, loaded[1], loaded[2], block_size, truncation, masks)


def _ready(loaded: tuple[Any, DatasetInfo, Lineage, dict[str, Any]], where: str, conditions: pd.DataFrame, seed: int,
           device: str, real: Manifest | None, mask_transform: str, local: int = 0) -> tuple[Any, pd.DataFrame, MaskConditions | None]:
    """The generator on its device, of several GPUs number `local`, its conditions without what it never learned, and their masks if it draws from masks."""
    import torch

    generator, info, _, spec = loaded
    masks = None
    if layers := wanted_layers(generator, spec):
        masks = mask_conditions(conditions, real, {x: info.layers[x] for x in layers}, spec["size"], seed, mask_transform)
    elif mask_transform != "none" or any(c.startswith("mask:") for c in conditions):
        what = "--mask-transform" if mask_transform != "none" else "conditions: mask:<layer>"
        raise InputError(what, f"masks for {where}, which draws its own", "a generator that draws from masks", "leave it out")
    conditions = blank_unlearned(with_prompts(conditions, spec, info, where), spec, info)  # a report is no value, and is read here
    labels = conditions.reindex(columns=[f"label:{c}" for c in info.classes if c not in spec.get("untaught", [])])
    if (opened := int(labels.isna().any(axis=1).sum())) and not spec["label_dropout"]:
        warnings.warn(f"{opened} of {len(conditions)} conditions leave a label open, and {where} was trained without "
                      "label_dropout: it may never have seen an open label, so name every label, or train it anew", stacklevel=3)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device", "cuda, and torch finds no GPU here", "cpu or auto", "see `synthrad doctor`")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if device == "cuda":
        device = f"cuda:{local % torch.cuda.device_count()}"  # srun may show each process its own alone
    return generator.to(device), complete(conditions, info), masks


# ---- the command


def parser() -> argparse.ArgumentParser:
    """`synthrad sample --help`."""
    p = argparse.ArgumentParser("synthrad sample", description=f"{__doc__}\nStarted by srun or torchrun, several processes share out the blocks: "
                                "torchrun --nproc-per-node=2 -m synthrad sample ...", formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkpoint", required=True, help="last.ckpt of a trained generator")
    p.add_argument("--out", help="folder of the synthetic set; the same call continues a stopped one")
    p.add_argument("--number", type=int, help="images, for --conditions real alone (default 500; 8 for a sheet of truncations, "
                   "5 for --interpolate)")
    p.add_argument("--seed", type=int, default=0, help="image k draws its noise from this and k alone (default 0)")
    p.add_argument("--conditions", default="real", help="real: as the training rows; each:N: N of each of their distinct "
                   "conditions; a .csv of classes and attributes (and `text`, prompts for a model that reads them); a .json plan (default real)")
    p.add_argument("--manifest", help="the real dataset, for real and each:N; the checkpoint must be of it")
    p.add_argument("--truncation", type=float, nargs="+", default=[1.0], metavar="PSI",
                   help="1 = as trained, less = closer to the mean (default 1); several for a --sheet that compares them")
    diffusion = p.add_argument_group("diffusion models", "Each as the model was trained to be drawn from, unless given.")
    diffusion.add_argument("--sampler", choices=["ddpm", "ddim", "pndm", "dpm_multistep", "unipc", "heun"])
    diffusion.add_argument("--sampler-steps", type=int, metavar="N", help="calls of the net an image (pndm: one more; heun: twice as many)")
    diffusion.add_argument("--guidance", type=float, metavar="SCALE", help="1 = the condition as learned; more = exaggerated, with "
                           "less variety")
    diffusion.add_argument("--guidance-interval", type=float, nargs=2, metavar=("FROM", "TO"), help="times at which guidance steers, from 0 "
                           "(the picture) to 1 (noise); the whole way is 0 1")
    p.add_argument("--block-size", type=int, default=16, help="images computed together (default 16)")
    p.add_argument("--alone", action="store_true", help="one process draws the whole set, whatever srun or torchrun say: for tasks with sets of their own")
    p.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="default: cuda where there is one")
    look = p.add_argument_group("pictures to look at", "They are no part of a set and never lie in its folder.")
    look.add_argument("--sheet", metavar="FILE.png", help="with --out: images of the set, class by class, present and absent, "
                      "beside their mask contours; without --out and with several --truncation: the same images under each")
    look.add_argument("--interpolate", metavar="FILE", help="instead of --out: from image to image through the latent space; "
                      ".png is a strip, .gif and .webp move and end where they began")
    look.add_argument("--steps", type=int, help="pictures from one image to the next (default 8 in a strip, 24 moving)")
    look.add_argument("--fps", type=float, help="pictures a second (default 12)")
    masks = p.add_argument_group(
        "generators that draw from masks", "They need --manifest. Each image takes the mask of a training row of its condition\n"
        "(real: of that very row), or the file that a column mask:<layer> of the .csv names.\nSuch a set shows the anatomy of "
        "training patients, moved or not; they enter its lineage.")
    masks.add_argument("--mask-transform", default="none", metavar="MOVE", help=f"{', '.join(TRANSFORMS)}. flip: mirror half of the masks; "
                       "affine: turn by up to 5 degrees, scale by 8 %%, shift by 4 %%; elastic: bend as well; within:LAYER: put the parts of all "
                       "other layers elsewhere inside the structures of that one. Drawn for each image (default none)")
    starts = p.add_argument_group(
        "diffusion models that start from real images", "They need --manifest. What is drawn shows training patients; they enter its lineage.")
    starts.add_argument("--start", metavar="WHICH", help=f"{', '.join(STARTS)}: each image starts from a training image that agrees with its "
                        "condition, or that agrees in all but a finding, which it is without (with --inside)")
    starts.add_argument("--strength", type=float, help="how much is drawn anew: near 0 nothing, 1 all (default 0.6; with --inside 1)")
    starts.add_argument("--inside", metavar="LAYER[/STRUCTURE]", help="only inside this structure may a picture change: of the image's own mask "
                        "or, for a generator that draws from masks, of the mask that it is given; that structure is copied into the image's own mask, "
                        "where it lies. Where it lies on another layer's, as a lesion does on a tooth, images are taken that have one there, too; what has no "
                        "such image is left out")
    starts.add_argument("--grow", type=int, default=0, metavar="PIXELS", help="by which the region is wider than the structure (default 0)")
    return p


def _start(args: argparse.Namespace, generator: Any, conditions: pd.DataFrame, real: Manifest | None, info: DatasetInfo, spec: Mapping[str, Any],
           masks: MaskConditions | None, kind: str) -> tuple[StartImages | None, pd.DataFrame, MaskConditions | None]:
    """The real images that --start names, and the conditions and masks for which there is one.

    Refuses its options without it, and generators that start from noise alone.
    """
    if args.start is None:
        for flag in ("strength", "inside", "grow"):
            if getattr(args, flag) not in (None, 0) or (flag == "strength" and args.strength is not None):
                raise InputError(f"--{flag}", str(getattr(args, flag)), "--start beside it", "add --start same, or leave it out")
        return None, conditions, masks
    if not getattr(generator, "starts_from_images", False):
        raise InputError("--start", f"given for a {type(generator).__name__}", "a diffusion model", "leave it out")
    if kind != "set":
        raise InputError("--start", "no --out", "the folder of the set", "add --out FOLDER, without --interpolate")
    strength = args.strength if args.strength is not None else 1.0 if args.inside else 0.6
    starts = start_images(args.start, conditions, real, list(spec["layers"]), spec["size"], args.seed, strength, args.inside, args.grow,
                          masks)
    if len(starts.kept) < len(conditions):
        conditions, masks = conditions.iloc[starts.kept].reset_index(drop=True), masks.take(starts.kept)
    for k in range(len(conditions) if args.inside else 0):  # a region that is empty is told now
        starts.under(to_condition(conditions.iloc[[k]], info, None if masks is None else masks.batch([k])), [k])
    return starts, conditions, masks


def _draw_with(generator: Any, args: argparse.Namespace) -> None:
    """Hand the options of diffusion models to one."""
    options = {"sampler": args.sampler, "steps": args.sampler_steps, "guidance": args.guidance,
               "guidance_interval": args.guidance_interval}
    if given := [k for k, v in options.items() if v is not None]:
        if not hasattr(generator, "draw_with"):
            raise InputError(f"--{given[0].replace('steps', 'sampler-steps').replace('_', '-')}", f"given for a {type(generator).__name__}",
                             "a diffusion model", "leave it out; a StyleGAN2 has --truncation")
        generator.draw_with(**options)


def run(argv: list[str]) -> int:
    """The command."""
    from synthrad import preview

    args = parser().parse_args(argv)
    kind, share = preview.kind_of(args), Share() if args.alone else Share.of(os.environ)
    if share.rank and kind != "set":
        return 0  # the first process draws pictures
    if args.number is not None and args.conditions != "real":
        raise InputError("--number", f"{args.number} with --conditions {args.conditions}, which says itself how many images",
                         "--number with --conditions real only", "leave --number out")
    number = preview.NUMBERS.get(kind, 500) if args.number is None else args.number
    for name, value in (("number", number), ("block-size", args.block_size)):
        if value < 1:
            raise InputError(f"--{name}", str(value), "a number of at least 1")
    if args.seed < 0:
        raise InputError("--seed", str(args.seed), "a number of at least 0")
    for psi in args.truncation:
        _check_truncation(psi)
    real = Manifest.read(args.manifest) if args.manifest else None
    train = None if real is None else real.where(split="train", source="real")
    loaded = generator, info, lineage, spec = load_generator(args.checkpoint)
    _draw_with(generator, args)
    if real is not None:
        check_same_dataset(info, real.info, args.checkpoint)
    layers = wanted_layers(generator, spec)
    if args.start and args.inside and train is not None:  # conditions of rows that have it
        train = with_structure(train, list(spec["layers"]), region_of(args.inside, list(spec["layers"]), info), spec["size"])
    conditions = read_conditions(args.conditions, info, train, number, args.seed, layers)
    generator, conditions, masks = _ready(loaded, args.checkpoint, conditions, args.seed, args.device, real, args.mask_transform, share.local)
    starts, conditions, masks = _start(args, generator, conditions, real, info, spec, masks, kind)
    if kind == "set":
        made = sample_set(generator, args.checkpoint, conditions, args.seed, args.out, info, lineage, args.block_size,
                          args.truncation[0], masks, starts, share)
        if made is None:
            return 0
        print(f"{len(made)} images in {args.out}")
        if args.sheet:
            preview.write_class_sheet(args.sheet, made)
        return 0
    if kind == "truncations":
        preview.write_truncation_sheet(
            args.sheet, lambda numbers, psi: draw(generator, conditions, numbers, args.seed, psi, info, masks),
            conditions, args.truncation, args.block_size, info, list(spec["layers"]))
        return 0
    seeds = [image_seed(args.seed, k) for k in range(len(conditions))]
    preview.write_walk(args.interpolate, generator, conditions, seeds, args.truncation[0], info, args.steps, args.fps,
                       args.block_size)
    return 0
