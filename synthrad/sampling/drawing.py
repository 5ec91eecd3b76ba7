"""Draw a set: images are computed in fixed blocks (the last one padded), the noise of each from its own seed alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from synthrad.blocks import Blocks, Rows, Share
from synthrad.conditioning import Condition, Generator, Images
from synthrad.data.conditions import TEXT, complete, to_condition
from synthrad.data.mask_conditions import MaskConditions
from synthrad.data.start_images import StartImages
from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.lineage import Lineage
from synthrad.locking import locked
from synthrad.records import Manifest
from synthrad.sampling import set_folder
from synthrad.sampling.set_rows import image_seed, set_table, write_image

ALONE = Share()


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

    _check_options(generator, truncation, masks)
    out = Path(out).resolve()
    conditions = complete(conditions, info)
    labels = conditions[[f"label:{c}" for c in info.classes]].to_numpy(dtype=float)
    check_asked(Condition(labels=labels), getattr(generator, "spec", {}))  # all of them, while nothing is written yet
    if TEXT in conditions:
        generator.check_prompts(list(conditions[TEXT]))
    drawing = getattr(generator, "drawing", {})  # of a diffusion model
    settings = {"checkpoint": file_digest(checkpoint), "seed": seed, "truncation": truncation, "block_size": block_size, "rows": len(conditions),
                "conditions": hashlib.sha256(conditions.to_csv(index=False).encode()).hexdigest(), **drawing}
    for source in (masks, starts):
        if source is not None:
            settings |= source.identity
            lineage = lineage + source.lineage
    lineage = replace(lineage, settings={**lineage.settings, "seed": seed, "block_size": block_size,
                                         "dtype": "float32", "truncation": truncation, **drawing})
    if set_folder.is_untouched(out, settings):
        return None if share.rank else Manifest.read(out)  # nothing is written
    blocks = Blocks(out, range(0, len(conditions), block_size), lambda start: _draw_block(
        generator, conditions, start, block_size, seed, truncation, out, info, masks, starts), share)
    number = f".{share.rank}" if share.rank else ""  # after the ending, where no name of a set collides; each has its lock; not in the set: a resumed one has the files of an uninterrupted one
    with locked(out.parent / f".{out.name}.lock{number}", "sample", out):
        if share.rank:
            if set_folder.begun(out, settings):
                print(f"synthrad sample: process {share.rank} of {share.world} drew {blocks.help()} of {math.ceil(len(conditions) / block_size)} blocks")
            return None
        if not set_folder.is_finished(out, settings):
            blocks.begin()
            rows = _all(blocks, len(conditions))
            made = replace(info, name=f"{info.name} (synthetic)", roots={HERE: str(out)}, lineage=lineage)
            Manifest(set_table(rows, conditions, seed, info, masks, starts), made).write(out)
            set_folder.drop_marks(out)
    return Manifest.read(out)


def _all(blocks: Blocks, images: int) -> Rows:
    """The rows of all blocks, drawn here or by other processes, with a bar."""
    from synthrad.progress import progress

    with progress(total=images, desc="sampling", unit="image") as bar:
        return blocks.all(bar.update)


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
    return [write_image(drawn, i, k, out, info, names) for i, k in enumerate(numbers) if k < len(conditions)]


def check_truncation(truncation: float) -> None:
    """Refuse what lies outside (0, 1]."""
    if not 0 < truncation <= 1:
        raise InputError("--truncation", str(truncation), "a number above 0 and at most 1 (1 = as trained)")


def _check_options(generator: Generator, truncation: float, masks: MaskConditions | None) -> None:
    """Refuse a truncation that cannot be or that the generator does not know, and a generator of masks without masks."""
    check_truncation(truncation)
    if truncation != 1 and not getattr(generator, "takes_truncation", True):
        raise InputError("--truncation", str(truncation), f"1 for a {type(generator).__name__}, which has no mean picture",
                         "leave it out; --guidance above 1 trades variety for what was asked")
    if masks is None and getattr(generator, "wants_masks", False):
        raise InputError("masks", "none", "MaskConditions: this generator draws from masks", "make them by mask_conditions()")
