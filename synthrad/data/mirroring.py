"""Left and right exchanged: a mirrored mask names the structure of the other side, or the mirrored tooth of FDI's scheme."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from synthrad.errors import InputError

SIDES = {"left": "right", "right": "left", "l": "r", "r": "l", "lt": "rt", "rt": "lt"}
QUADRANT = {"1": "2", "2": "1", "3": "4", "4": "3", "5": "6", "6": "5", "7": "8", "8": "7"}  # ISO 3950
FDI = re.compile(r"([1-4])([1-8])|([5-8])([1-5])")


def mirror_values(layers: Mapping[str, Sequence[str]], where: str) -> list[np.ndarray]:
    """What each pixel value of each layer becomes in the mirror: uint8 [256] a layer.

    Structures whose name has the word left, right, l, r, lt or rt change places with those named for the other side, teeth numbered
    by FDI's scheme (a layer of nothing but such numbers, the word tooth apart) with those of the other quadrant. All others stay what they are.

    Args:
        layers: layer -> its structures. where: the config key or flag that asks for a mirror.

    Raises:
        InputError: a structure of one side in a layer that has none for the other: in the mirror it would be called what it is not.
    """
    out = []
    for layer, names in layers.items():
        values = np.arange(256, dtype=np.uint8)
        for k, (name, other) in enumerate(zip(names, _counterparts(names), strict=True)):
            if other is None:
                continue
            if other not in names:
                raise InputError(where, f"a mirror, and {name!r} of layer {layer!r} without {other!r}", "both sides in one layer, to change places",
                                 "take affine or elastic, which leave sides alone")
            values[k + 1] = list(names).index(other) + 1
        out.append(values)
    return out


def mirror(masks: np.ndarray, values: Sequence[np.ndarray]) -> np.ndarray:
    """Masks [L, H, W] of values 0 to 255, mirrored and renamed by `mirror_values`."""
    return np.stack([v[m][..., ::-1].astype(m.dtype) for m, v in zip(masks, values, strict=True)]) if len(masks) else masks.copy()


def _counterparts(names: Sequence[str]) -> list[str | None]:
    """The name on the other side; None for a structure of neither."""
    bare = [re.sub(r"(?i)^tooth[ _-]?", "", n) for n in names]
    if names and all(FDI.fullmatch(b) for b in bare):
        return [n[: len(n) - 2] + QUADRANT[b[0]] + b[1] for n, b in zip(names, bare, strict=True)]
    return [_other_side(n) for n in names]


def _other_side(name: str) -> str | None:
    parts = re.split(r"([ _\-./()]+)", name)
    found = [i for i, p in enumerate(parts) if p.lower() in SIDES]
    if len(found) != 1:
        return None
    word = SIDES[parts[found[0]].lower()]
    old = parts[found[0]]
    parts[found[0]] = word.upper() if old.isupper() else word.capitalize() if old[0].isupper() else word
    return "".join(parts)
