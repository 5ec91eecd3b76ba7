"""Cells: combinations of balance classes, and the text by which a study names them.

A cell is a tuple of parts, one a declared balance class, in this order:

    caries=1                        label class: 1, 0 or ? (unknown)
    tooth/implant=1                 structure of a mask layer: its area is above 0
    size(tooth/implant)=0.01..0.05  size bin, from 0.01 to below 0.05 of the picture (0.05.. is open, none = absent)
    sex=F                           attribute; ? = blank

A synthetic row's cell is its condition: its label and attribute columns. A size bin is a condition where the real set has
it as an attribute (`prepare table --size-bins`). Structures without a label of the same name, and sizes without that
attribute, are no condition of a generator and are measured on the mask that was drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from synthrad.conditioning import size_attribute, size_bins
from synthrad.errors import InputError
from synthrad.records import Manifest

Cell = tuple[str, ...]
UNKNOWN, ABSENT = "?", "none"
PREVALENCE = (
    0.02,
    0.98,
)  # a structure on fewer or more images than that makes cells that nobody can fill or balance


@dataclass(frozen=True)
class Cells:
    """The balance classes whose combinations are the cells of an arm.

    Args:
        classes: label classes; None = all with a known value (less those whose sizes are binned).
        structures: mask structures, as `structure` or `layer/structure`, with a prevalence of 2-98 %;
            None = none, or all of that prevalence if neither labels nor sizes are there.
        attributes: attributes; they divide cells and are never a class to balance.
        size_bins: structure -> increasing edges on its area (share of the picture, in (0, 1)).
    """

    classes: list[str] | None = None
    structures: list[str] | None = None
    attributes: list[str] = field(default_factory=list)
    size_bins: dict[str, list[float]] = field(default_factory=dict)

    def resolve(self, real: Manifest) -> Cells:
        """The same with every name checked and written out, so that another manifest gets the same cells."""
        sizes = {
            _structure(real, name, "size_bins"): _edges(name, edges) for name, edges in self.size_bins.items()
        }
        sized = set(sizes) | {s.split("/", 1)[1] for s in sizes}
        if self.classes is None:
            known = ~np.isnan(real.labels).all(axis=0) if len(real) else np.ones(len(real.info.classes), bool)
            classes = [c for c, k in zip(real.info.classes, known, strict=True) if k and c not in sized]
        else:
            classes = [_declared("classes", c, real.info.classes) for c in self.classes]
        if self.structures is None:
            fallback = [] if classes or sizes or self.classes is not None else real.names("area")
            structures = [s for s in fallback if PREVALENCE[0] <= _prevalence(real, s) <= PREVALENCE[1]]
        else:
            structures = [_structure(real, s, "structures") for s in self.structures]
        twice = sized & set([*classes, *structures])
        if twice:
            raise InputError(
                "cells.size_bins",
                f"{sorted(twice)} declared twice",
                "a structure's presence or its size, not both",
                "remove it from classes or structures",
            )
        attributes = [_declared("attributes", a, real.names("attribute")) for a in self.attributes]
        return Cells(classes, structures, attributes, sizes)

    def of(self, manifest: Manifest) -> list[Cell]:
        """The cell of every row. Resolve first where real and synthetic rows must get the same parts."""
        parts = self.resolve(manifest) if self.classes is None or self.structures is None else self
        columns = [_label_parts(manifest, c) for c in parts.classes or ()]
        columns += [_structure_parts(manifest, s) for s in parts.structures or ()]
        columns += [_size_parts(manifest, s, edges) for s, edges in parts.size_bins.items()]
        columns += [_attribute_parts(manifest, a) for a in parts.attributes]
        return list(zip(*columns, strict=True)) if columns else [()] * len(manifest)

    def positives(self, cell: Cell) -> tuple[str, ...]:
        """The classes present in a cell: labels and structures by name, a size bin by its part; a normal cell has none."""
        parts = cell[: len(cell) - len(self.attributes)]
        present = [p for p in parts if p.rsplit("=", 1)[1] not in ("0", UNKNOWN, ABSENT)]
        return tuple(p[:-2] if p.endswith("=1") else p for p in present)

    def single(self, observed: Iterable[Cell], name: str) -> list[Cell]:
        """Cells in which class `name` is alone, one for every observed combination of attributes."""
        made = set()
        for cell in observed:
            if name in self.positives(cell):
                cut = len(cell) - len(self.attributes)
                keep = (name, f"{name}=1")
                made.add(tuple(p if p in keep else _negative(p) for p in cell[:cut]) + cell[cut:])
        return sorted(made)


def text(cell: Cell) -> str:
    """A cell as messages print it."""
    return ", ".join(cell) or "(all rows)"


def is_known(cell: Cell) -> bool:
    """Whether no part of a cell is unknown."""
    return not any(p.endswith(f"={UNKNOWN}") for p in cell)


def count(manifest: Manifest, wanted: Iterable[Cell]) -> Counter[Cell]:
    """How many rows a manifest has of each wanted cell; cells of several arms (other Cells) may be mixed."""
    masks: dict[str, np.ndarray] = {}
    return Counter({c: int((_matching_parts(manifest, c, masks) == len(c)).sum()) for c in wanted})


def conditions(wanted: Mapping[Cell, int], real: Manifest, rng: np.random.Generator) -> pd.DataFrame:
    """Conditions for a sampler: the label:* and attribute:* columns of real rows of each cell, subjects taken in turn.

    What a cell does not name (other labels, sex ...) so follows the real images of that cell. A cell without a real row
    takes the rest from the cell nearest to it.

    Args:
        wanted: rows per cell, e.g. the maximum of `needs` over arms; cells of several Cells may be mixed.

    Returns:
        [sum of wanted, labels + attributes], labels 0, 1 or NaN, attributes str.
    """
    columns = [c for c in real.table.columns if c.startswith(("label:", "attribute:"))]
    table, subjects, masks = real.table[columns], real.column("subject"), {}
    blocks = []
    for cell, number in sorted(wanted.items()):
        same = _matching_parts(real, cell, masks)
        rows = np.flatnonzero(same == same.max(initial=0))
        if not len(rows):
            raise InputError("conditions", "no real row", "real training rows to take conditions from")
        block = table.iloc[by_subject(subjects, rows, number, rng)].copy()
        for part in cell:
            column, value = _condition(real, part)
            if column:
                block[column] = value
        blocks.append(block)
    return pd.concat(blocks, ignore_index=True) if blocks else table.iloc[:0].reset_index(drop=True)


def by_subject(subjects: np.ndarray, rows: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """`number` of `rows`, repeats allowed: subjects take turns in a random order, so do the images of each.

    Args:
        subjects: [all rows] str. rows: positions to take from.

    Returns:
        int [number]; two subjects differ by at most one row.
    """
    images = {s: rng.permutation(rows[subjects[rows] == s]) for s in sorted(set(subjects[rows]))}
    order = rng.permutation(len(images))
    turns = [list(images.values())[i] for i in order]
    chosen = [turns[k % len(turns)][(k // len(turns)) % len(turns[k % len(turns)])] for k in range(number)]
    return np.array(chosen, dtype=int)


def nearest(cell: Cell, present: Mapping[Cell, int]) -> Cell:
    """The present cell that shares most parts with `cell`; among equals the one with most rows, then the first by name."""
    return min(present, key=lambda c: (-sum(a == b for a, b in zip(c, cell, strict=True)), -present[c], c))


def _declared(key: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise InputError(
            f"cells.{key}", repr(name), f"one of {list(known)}", "correct the name in the config"
        )
    return name


def _structure(real: Manifest, name: str, key: str) -> str:
    known = real.names("area")
    full = [k for k in known if name in (k, k.split("/", 1)[-1])]
    if len(full) != 1:
        raise InputError(
            f"cells.{key}",
            f"{name!r}, {len(full)} structures of that name",
            f"one of {list(known)}",
            "write it as layer/structure",
        )
    share = _prevalence(real, full[0])
    if key == "structures" and len(real) and not PREVALENCE[0] <= share <= PREVALENCE[1]:
        raise InputError(
            "cells.structures",
            f"{full[0]!r} on {share:.1%} of the images",
            f"a prevalence of {PREVALENCE[0]:.0%}-{PREVALENCE[1]:.0%}",
            "remove it from `structures`",
        )
    return full[0]


def _edges(name: str, edges: Sequence[float]) -> list[float]:
    values = [float(e) for e in edges]
    if not values or sorted(set(values)) != values or not 0 < values[0] <= values[-1] < 1:
        raise InputError(f"cells.size_bins.{name}", f"{list(edges)}", "increasing edges between 0 and 1")
    return values


def _prevalence(manifest: Manifest, structure: str) -> float:
    areas = manifest.column(f"area:{structure}")
    known = ~np.isnan(areas)
    return float((areas[known] > 0).mean()) if known.any() else 0.0


def _ternary(values: np.ndarray) -> np.ndarray:
    """0, 1 or NaN -> "0", "1", "?"."""
    return np.where(np.isnan(values), UNKNOWN, np.where(values > 0, "1", "0"))


def _parts(key: str, values: Iterable[str]) -> np.ndarray:
    return np.array([f"{key}={v}" for v in values], dtype=object)


def _label_parts(manifest: Manifest, name: str) -> np.ndarray:
    return _parts(name, _ternary(manifest.column(f"label:{name}").astype(float)))


def _areas(manifest: Manifest, structure: str) -> np.ndarray:
    column = f"area:{structure}"
    if structure not in manifest.names("area"):
        raise InputError(
            "cells",
            f"a set without the column {column}",
            "areas of the balance classes",
            "import or sample the set with its masks, or balance on labels",
        )
    return manifest.column(column).astype(float)


def _structure_parts(manifest: Manifest, structure: str) -> np.ndarray:
    values = _ternary(_areas(manifest, structure))
    label = structure.split("/", 1)[1]
    if label in manifest.info.classes:
        asked = _ternary(manifest.column(f"label:{label}").astype(float))
        values = np.where((manifest.column("source") == "synthetic") & (asked != UNKNOWN), asked, values)
    return _parts(structure, values)


def _size_parts(manifest: Manifest, structure: str, edges: Sequence[float]) -> np.ndarray:
    values = size_bins(_areas(manifest, structure), edges)
    name = size_attribute(structure)
    if name in manifest.names("attribute"):
        asked = manifest.column(f"attribute:{name}")
        known = (manifest.column("source") == "synthetic") & (asked != "")
        values = np.where(known, asked, values)
    return _parts(name, np.where(values == "", UNKNOWN, values))


def _attribute_key(manifest: Manifest, name: str) -> str:
    return f"attribute:{name}" if name in manifest.info.classes else name


def _attribute_parts(manifest: Manifest, name: str) -> np.ndarray:
    if name not in manifest.names("attribute"):
        return _parts(_attribute_key(manifest, name), [UNKNOWN] * len(manifest))
    return _parts(
        _attribute_key(manifest, name), [v or UNKNOWN for v in manifest.column(f"attribute:{name}")]
    )


def _matching_parts(manifest: Manifest, cell: Cell, masks: dict[str, np.ndarray]) -> np.ndarray:
    """int [rows]: how many parts of `cell` each row has; masks keeps a part's rows between calls."""
    found = np.zeros(len(manifest), dtype=int)
    for part in cell:
        if part not in masks:
            masks[part] = _part_mask(manifest, part)
        found += masks[part]
    return found


def _part_mask(manifest: Manifest, part: str) -> np.ndarray:
    key, value = part.split("=", 1)
    if key in manifest.info.classes:
        return _label_parts(manifest, key) == part
    if key.startswith("size("):
        edges = [float(e) for e in value.split("..") if e] if ".." in value else [0.5]
        return _size_parts(manifest, key[5:-1], edges) == part
    if key in manifest.names("area"):
        return _structure_parts(manifest, key) == part
    return _attribute_parts(manifest, key.removeprefix("attribute:")) == part


def _condition(real: Manifest, part: str) -> tuple[str, float | str]:
    """The manifest column that a part sets and its value; no column for a part that is no condition."""
    key, value = part.split("=", 1)
    label = key.split("/", 1)[-1] if key in real.names("area") else key
    if label in real.info.classes:
        return f"label:{label}", np.nan if value == UNKNOWN else float(value)
    name = key.removeprefix("attribute:")
    if name in real.names("attribute"):
        return f"attribute:{name}", "" if value == UNKNOWN else value
    return "", ""


def _negative(part: str) -> str:
    key = part.split("=", 1)[0]
    return f"{key}={ABSENT if key.startswith('size(') else 0}"
