"""Draw docs/phantoms.png, the README's picture: phantoms, and the same with their masks.

Run: python scripts/picture.py   (2 s)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from synthrad.data.phantom import draw_phantom

OUT = Path(__file__).parents[1] / "docs" / "phantoms.png"
SIZE, GAP = (224, 448), 4
PATIENTS = ((3, (1, 1, 0, 0), "female", 27), (5, (0, 0, 1, 1), "male", 34), (2, (1, 1, 1, 0), "female", 66))
COLOURS = np.array([(0, 0, 0), (255, 80, 60), (255, 190, 0), (0, 200, 255), (240, 70, 255)])
TOOTH = np.array((40, 230, 120))


def overlay(image: np.ndarray, masks: dict[str, np.ndarray]) -> np.ndarray:
    """Masks over an image: uint8 [h, w, 3]."""
    out = np.repeat(image[..., None], 3, axis=2).astype(float)
    tooth, findings = masks["tooth"] > 0, masks["abnormality"]
    out[tooth] = 0.78 * out[tooth] + 0.22 * TOOTH
    found = findings > 0
    out[found] = 0.4 * out[found] + 0.6 * COLOURS[findings[found]]
    return out.astype(np.uint8)


def palette() -> Image.Image:
    """Greys, and greys under each colour: few enough for a small file, and none of them lost."""
    greys = np.linspace(0, 255, 32)[:, None]
    tinted = [np.repeat(greys, 3, axis=1), 0.78 * greys[2:] + 0.22 * TOOTH]
    tinted += [0.4 * greys[::4] + 0.6 * colour for colour in COLOURS[1:]]
    out = Image.new("P", (1, 1))
    out.putpalette(np.vstack(tinted).astype(np.uint8).tobytes())
    return out


def main() -> None:
    """Write the picture, one row a patient."""
    rows = []
    for index, labels, sex, age in PATIENTS:
        p = draw_phantom(0, index, SIZE, labels, sex, age)
        plain = np.repeat(p.image[..., None], 3, axis=2)
        gap = np.full((SIZE[0], GAP, 3), 255, np.uint8)
        rows += [
            np.hstack([plain, gap, overlay(p.image, p.masks)]),
            np.full((GAP, 2 * SIZE[1] + GAP, 3), 255, np.uint8),
        ]
    OUT.parent.mkdir(exist_ok=True)
    picture = Image.fromarray(np.vstack(rows[:-1]))
    picture.quantize(palette=palette(), dither=Image.Dither.NONE).save(OUT, optimize=True)
    print(f"{OUT.name}: {picture.width} x {picture.height}, {OUT.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
