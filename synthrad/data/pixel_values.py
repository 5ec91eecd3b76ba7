"""Pixel values of masks made elsewhere: which value is which structure of which layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthrad.data.images import read_mask
from synthrad.errors import InputError
from synthrad.files import check_inside


@dataclass(frozen=True)
class Layer:
    """One mask layer: its column, its structures, and the structure number of each pixel value (-1 = undeclared)."""

    name: str
    column: str
    structures: tuple[str, ...]
    lookup: np.ndarray


def parse_values(spec: str) -> tuple[str, dict[int, str]]:
    """`layer:255=caries`, `layer:1-9=tooth`, `layer:11-18,21-28` -> layer, {pixel value: structure}.

    Raises:
        InputError: a spec of another form, or a value named twice.
    """
    layer, colon, rest = spec.partition(":")
    values: dict[int, str] = {}
    try:
        if not (layer and colon):
            raise ValueError("no `LAYER:`")
        for part in rest.split(","):
            span, _, name = part.partition("=")
            low, _, high = span.partition("-")
            for value in range(int(low), int(high or low) + 1):
                if value < 1 or value > 65535 or value in values:
                    raise ValueError(
                        f"value {value} " + ("named twice" if value in values else "outside 1-65535")
                    )
                values[value] = name.strip() or str(value)
        if not values:
            raise ValueError("no value")
    except ValueError as e:
        raise InputError(
            "--mask-classes",
            f"{spec!r} ({e})",
            "LAYER:VALUE=NAME,... or LAYER:LOW-HIGH",
            "e.g. abnormality:255=caries or tooth:11-18,21-28,31-38,41-48",
        ) from e
    return layer, values


def declared_layers(specs: Sequence[str]) -> list[Layer]:
    """The layers of `--mask-classes`, all of one mask: `tumour:1=core,2=oedema`, perhaps several.

    Raises:
        InputError: a spec of another form, a layer twice, or more than 254 structures.
    """
    layers: list[Layer] = []
    for name, values in map(parse_values, specs):
        structures = tuple(dict.fromkeys(values.values()))
        if name in [layer.name for layer in layers] or len(structures) > 254:
            found = f"{name}: {len(structures)} structures" if len(structures) > 254 else f"layer {name} twice"
            raise InputError("--mask-classes", found, "each layer once, with at most 254 structures", "join the values with a comma")
        layers.append(Layer(name, "", structures, lookup_table(values, structures)))
    return layers


def lookup_table(values: Mapping[int, str], structures: Sequence[str]) -> np.ndarray:
    """[65536] int32: the structure number (from 1) of each pixel value, 0 for 0, -1 where none is declared."""
    table = np.full(65536, -1, np.int32)
    table[0] = 0
    for value, structure in values.items():
        table[value] = structures.index(structure) + 1
    return table


def declared(layer: Layer) -> str:
    """The pixel values of a layer in words: `1-9=tooth, 255=caries`."""
    values = np.flatnonzero(layer.lookup > 0)
    runs = np.split(values, np.flatnonzero((np.diff(values) > 1) | (np.diff(layer.lookup[values]) != 0)) + 1)
    words = [
        (f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}") + f"={layer.structures[layer.lookup[run[0]] - 1]}"
        for run in runs
    ]
    return ", ".join(words[:40]) + (f" and {len(words) - 40} more" if len(words) > 40 else "")


def read_layer(folder: Path, value: str, layer: Layer, shape: tuple[int, int] | None) -> np.ndarray:
    """A mask file as structure numbers, uint8 [H, W].

    Raises:
        InputError: outside the folder, unreadable, of another size than `shape` (its image's), or with an undeclared value.
    """
    path = folder / value
    check_inside(path, folder)
    pixels = read_mask(path)
    if shape is not None and pixels.shape != shape:
        raise InputError(
            str(path),
            f"{pixels.shape[1]} x {pixels.shape[0]} pixels",
            f"{shape[1]} x {shape[0]}, the size of its image",
            "draw the mask on its own image",
        )
    mapped = layer.lookup[pixels]
    if (mapped < 0).any():
        found = ", ".join(map(str, np.unique(pixels[mapped < 0])[:10]))
        raise InputError(
            str(path),
            f"the pixel value(s) {found}",
            f"0 or a value declared for layer {layer.name!r}: {declared(layer)}",
            f"add {layer.name}:VALUE=NAME to --mask-classes; JPEG masks hold stray values, use PNG",
        )
    return mapped.astype(np.uint8)
