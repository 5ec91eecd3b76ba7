"""A set as plain files for other people's programs: PNGs of pixels and nothing else under neutral names, and one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from synthrad.data.images import read_image, read_mask, write_image, write_mask
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.lineage import project_key, pseudonym
from synthrad.manifest_table import SPLITS
from synthrad.progress import progress
from synthrad.records import Manifest

TABLE = "records.csv"


@dataclass(frozen=True)
class PlainCopy:
    """What was written: records.csv as a table, one row an image, paths relative to the folder."""

    folder: Path
    table: pd.DataFrame


def open_folder(out: Path | str) -> Path:
    """A new or empty folder for an export.

    Raises:
        InputError: a file, or a folder with something in it.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(str(out), "a folder with files in it" if out.is_dir() else "a file", "a new or empty folder", "name another")
    out.mkdir(parents=True, exist_ok=True)
    return out


def write_plain(manifest: Manifest, out: Path | str) -> PlainCopy:
    """Write images/<channel>/000001.png, masks/<layer>/000001.png and records.csv.

    Pixels are decoded and written anew: no text, no camera data, no file name of the source goes along. Subjects are pseudonyms
    (the key stays in the project), the same in every export of this project.

    Raises:
        InputError: `out` is not empty, or an image cannot be read.
    """
    out, info = open_folder(out), manifest.info
    hashes = {s: pseudonym(info.id, s, project_key()) for s in set(manifest.column("subject"))}
    rows = []
    for i, record in enumerate(progress(manifest, desc="writing images", total=len(manifest), unit="image")):
        name = f"{i + 1:06d}.png"
        row: dict[str, object] = {}
        for channel, path in zip(info.channels, record.channels, strict=True):
            row[f"image:{channel}"] = f"images/{channel}/{name}"
            write_image(out / row[f"image:{channel}"], read_image(path))
        for layer, path in zip(info.layers, record.masks, strict=True):
            row[f"mask:{layer}"] = f"masks/{layer}/{name}" if path else ""
            if path:
                write_mask(out / row[f"mask:{layer}"], read_mask(path))
        row |= {"subject": hashes[record.subject], "split": record.split, "source": record.source}
        row |= {f"label:{c}": "" if v is None else v for c, v in zip(info.classes, record.labels, strict=True)}
        row |= {f"attribute:{a}": record.attributes.get(a, "") for a in info.attributes}
        rows.append(row)
    table = pd.DataFrame(rows)
    write_durably(out / TABLE, table.to_csv(index=False, lineterminator="\n").encode())
    return PlainCopy(out, table)


def splits_of(copy: PlainCopy) -> dict[str, np.ndarray]:
    """Split -> positions of its rows, those that have any."""
    found = {s: np.flatnonzero(copy.table["split"] == s) for s in SPLITS}
    return {s: rows for s, rows in found.items() if rows.size}
