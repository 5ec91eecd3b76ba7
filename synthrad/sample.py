"""`synthrad sample`: draw a synthetic set from a trained generator.

Images are computed in fixed blocks (the last one padded) and the noise of each image comes from its own seed alone, so
that a set that was killed and resumed, or made on more devices, has the same bytes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

import pandas as pd

from synthrad import preview
from synthrad.blocks import Share
from synthrad.data.conditions import read_conditions, to_condition
from synthrad.data.mask_conditions import MaskConditions
from synthrad.data.mask_moves import TRANSFORMS
from synthrad.data.start_images import STARTS, StartImages, region_of, start_images, with_structure
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.generators.loading import check_same_dataset, load_generator, wanted_layers
from synthrad.records import Manifest
from synthrad.sampling.drawing import check_truncation, draw, sample_set
from synthrad.sampling.from_checkpoint import ready
from synthrad.sampling.set_rows import image_seed


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


def _images_asked_for(args: argparse.Namespace, kind: str) -> int:
    """How many images, by the flags or by default; refuses numbers that cannot be.

    Raises:
        InputError: names the flag.
    """
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
        check_truncation(psi)
    return number


def run(argv: list[str]) -> int:
    """The command."""
    args = parser().parse_args(argv)
    kind, share = preview.kind_of(args), Share() if args.alone else Share.of(os.environ)
    if share.rank and kind != "set":
        return 0  # the first process draws pictures
    number = _images_asked_for(args, kind)
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
    generator, conditions, masks = ready(loaded, args.checkpoint, conditions, args.seed, args.device, real, args.mask_transform, share.local)
    starts, conditions, masks = _start(args, generator, conditions, real, info, spec, masks, kind)
    if kind == "set":
        made = sample_set(generator, args.checkpoint, conditions, args.seed, args.out, info, lineage, args.block_size,
                          args.truncation[0], masks, starts, share)
        if made is not None:
            print(f"{len(made)} images in {args.out}")
            if args.sheet:
                preview.write_class_sheet(args.sheet, made)
    elif kind == "truncations":
        preview.write_truncation_sheet(
            args.sheet, lambda numbers, psi: draw(generator, conditions, numbers, args.seed, psi, info, masks),
            conditions, args.truncation, args.block_size, info, list(spec["layers"]))
    else:
        seeds = [image_seed(args.seed, k) for k in range(len(conditions))]
        preview.write_walk(args.interpolate, generator, conditions, seeds, args.truncation[0], info, args.steps, args.fps,
                           args.block_size)
    return 0
