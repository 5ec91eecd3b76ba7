"""Pictures of synthetic images for the eye: sheets of panels in titled blocks, and animations.

A panel is an image beside a copy of itself with the contours of its masks. Small images are enlarged by whole factors
without smoothing, so that what is seen is what was drawn; of several channels the first is shown.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from synthrad.conditioning import Images
from synthrad.data.images import fit, read_image, read_mask
from synthrad.errors import InputError
from synthrad.records import Manifest

SIDE = (128, 256)  # pixels: the longer side of an image is enlarged to about the first, shrunk to the second
COLUMNS, PER_CLASS = 4, 8  # panels in a row of a class sheet, and in a block
GAP, MARGIN = 6, 14  # pixels
READ_AT = 1200  # pixels: a wider sheet is shrunk to about this on a page, so that its letters are larger
COLOURS = ((255, 92, 92), (72, 214, 116), (92, 160, 255), (255, 206, 64), (206, 122, 255), (80, 224, 232), (255, 150, 60),
           (255, 140, 200))
INK, PALE, PAPER = (24, 32, 40), (92, 107, 122), (255, 255, 255)


@dataclass(frozen=True)
class Panel:
    """uint8 [h, w, 3] and a line below it."""

    pixels: np.ndarray
    caption: str = ""


@dataclass(frozen=True)
class Block:
    """Panels under a title."""

    title: str
    panels: Sequence[Panel]


def to_grey(image: np.ndarray) -> np.ndarray:
    """float [H, W] in [-1, 1] to uint8."""
    return ((image + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def picture(grey: np.ndarray, masks: np.ndarray | None, structures: Sequence[int], upright: bool = False) -> np.ndarray:
    """An image beside itself with its masks' contours, uint8 [h, 2 w + 2, 3]; without a mask the image alone.

    Args:
        grey: uint8 [H, W]. masks: int [L, H, W], k = the k-th structure of its layer, or None.
        structures: number of structures of each layer: each has a colour of its own, as long as there are colours.
        upright: the contours below the image rather than beside it.
    """
    size = _shown(grey.shape)
    plain = np.repeat(fit(grey, size, "squeeze", nearest=size[0] > grey.shape[0])[..., None], 3, -1)
    if masks is None or not len(masks):
        return plain
    outlined, before = plain.copy(), 0
    for layer, number in zip(masks, structures, strict=True):
        large = fit(layer.astype(np.uint8), size, "squeeze", nearest=True)
        for k in np.unique(large[large > 0]):
            outlined[_outline(large == k, max(1, min(size) // 96))] = COLOURS[(before + int(k) - 1) % len(COLOURS)]
        before += number
    axis = 0 if upright else 1
    shape = (2, plain.shape[1], 3) if upright else (plain.shape[0], 2, 3)
    return np.concatenate([plain, np.full(shape, 255, np.uint8), outlined], axis)


def pictures(drawn: Images, structures: Sequence[int], upright: bool = True) -> list[np.ndarray]:
    """`picture` of each of several images as a generator gives them; structures: number of structures of each layer."""
    masks = [None] * len(drawn.image) if drawn.masks is None else drawn.masks.cpu().numpy()
    greys = [to_grey(image) for image in drawn.image[:, 0].float().cpu().numpy()]
    return [picture(g, m, structures, upright) for g, m in zip(greys, masks, strict=True)]


def class_sheet(manifest: Manifest) -> Image.Image:
    """A block of images for each class that was asked to be present, one for absent, one where it was left open.

    Images are evenly spread over those of the block. A set without a known label is one block.

    Raises:
        InputError: a set without rows.
    """
    if not len(manifest):
        raise InputError("--sheet", "a set without images", "at least one image")
    info, drawn = manifest.info, {}
    blocks = []
    for name, column in zip(info.classes, manifest.labels.T, strict=True):
        for word, rows in (("present", column == 1), ("absent", column == 0), ("left open", np.isnan(column))):
            if rows.any() and not np.isnan(column).all():
                blocks.append(_block(f"{name} {word}", manifest, np.flatnonzero(rows), drawn))
    settings = info.lineage.settings
    facts = [f"{k} {settings[k]}" for k in ("seed", "truncation") if k in settings]
    heading = ", ".join([f"{info.name}: {len(manifest)} images", *facts])
    return sheet(heading, blocks or [_block("all images", manifest, np.arange(len(manifest)), drawn)], COLUMNS, info.layers)


def sheet(heading: str, blocks: Sequence[Block], columns: int, layers: Mapping[str, Sequence[str]]) -> Image.Image:
    """Blocks one below the other, `columns` panels a row, all panels of one size.

    Args:
        layers: mask layers and their structures: named with their colours if there are no more than colours.
    """
    height, width = blocks[0].panels[0].pixels.shape[:2]
    captioned = any(p.caption for b in blocks for p in b.panels)
    grown = max(1.0, (2 * MARGIN + columns * (width + GAP)) / READ_AT)

    def px(size: int) -> int:
        return round(size * grown)

    row = height + GAP + (px(16) if captioned else 0)
    names = [s for structures in layers.values() for s in structures]
    legend = names if len(names) <= len(COLOURS) else []
    lines = [-(-len(b.panels) // columns) for b in blocks]
    wide = 2 * MARGIN + columns * (width + GAP) - GAP
    tall = 2 * MARGIN + px(26) + (px(22) if legend else 0) + sum(px(30) * bool(b.title) + n * row for b, n in zip(blocks, lines, strict=True))
    page = Image.new("RGB", (wide, tall), PAPER)
    pen, y = ImageDraw.Draw(page), MARGIN
    _write(pen, (MARGIN, y), heading, px(15), INK, wide - 2 * MARGIN)
    y += px(26)
    if legend:
        _legend(pen, y, legend, wide, px(11))
        y += px(22)
    for block, number in zip(blocks, lines, strict=True):
        if block.title:
            _write(pen, (MARGIN, y + px(6)), block.title, px(13), INK, wide - 2 * MARGIN)
            y += px(30)
        for i, panel in enumerate(block.panels):
            at = (MARGIN + i % columns * (width + GAP), y + i // columns * row)
            page.paste(Image.fromarray(panel.pixels), at)
            _write(pen, (at[0], at[1] + height + 1), panel.caption, px(10), PALE, width)
        y += number * row
    return page


def png(page: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    page.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def animation(frames: Sequence[np.ndarray], fps: float, suffix: str) -> bytes:
    """The bytes of an endless GIF or WebP.

    Args:
        frames: uint8 [h, w, 3] of `picture`. fps: frames a second (GIF stores hundredths of a second).
        suffix: .gif, in 248 greys and the colours of contours, or .webp.
    """
    pictures = [Image.fromarray(f) for f in frames]
    more = {"quality": 90} if suffix == ".webp" else {"optimize": False}
    if suffix == ".gif":  # one palette for all frames: a palette of its own makes each frame flicker
        palette = Image.new("P", (1, 1))
        greys = [(g, g, g) for g in np.linspace(0, 255, 256 - len(COLOURS)).round().astype(int).tolist()]
        palette.putpalette([v for colour in [*greys, *COLOURS] for v in colour])
        pictures = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    buffer = io.BytesIO()
    pictures[0].save(buffer, format=suffix[1:].upper(), save_all=True, append_images=pictures[1:], loop=0,
                     duration=round(1000 / fps), **more)
    return buffer.getvalue()


def _block(title: str, manifest: Manifest, rows: np.ndarray, drawn: dict[int, Panel]) -> Block:
    """At most PER_CLASS of `rows`, evenly spread; `drawn` keeps panels that other blocks show too."""
    count = f"{len(rows)} image{'s' if len(rows) != 1 else ''}"
    if len(rows) > PER_CLASS:
        rows = rows[np.linspace(0, len(rows) - 1, PER_CLASS).round().astype(int)]
    for i in map(int, rows):
        if i not in drawn:
            drawn[i] = panel(manifest, i)
    return Block(f"{title}: {count}", [drawn[int(i)] for i in rows])


def panel(manifest: Manifest, i: int, caption: str | None = None, outlined: bool = True) -> Panel:
    """An image of a manifest beside its contours, or alone; caption: None = the file's name and its positive labels."""
    record, info = manifest[i], manifest.info
    low, high = info.intensity["low"], info.intensity["high"]
    grey = to_grey((read_image(record.channels[0]).astype(np.float32) - low) / (high - low) * 2 - 1)
    masks = [np.zeros(grey.shape, np.uint8) if path is None else read_mask(path) for path in record.masks]
    present = ", ".join(c for c, v in zip(info.classes, record.labels, strict=True) if v == 1)
    known = outlined and any(path is not None for path in record.masks)
    pixels = picture(grey, np.stack(masks) if known else None, [len(s) for s in info.layers.values()])
    return Panel(pixels, f"{Path(record.channels[0]).stem}  {present}" if caption is None else caption)


def _shown(shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of an image on a sheet."""
    longer = max(shape)
    if longer > SIDE[1]:
        return max(1, round(shape[0] * SIDE[1] / longer)), max(1, round(shape[1] * SIDE[1] / longer))
    factor = max(1, SIDE[0] // longer)
    return shape[0] * factor, shape[1] * factor


def _outline(region: np.ndarray, thickness: int) -> np.ndarray:
    """The pixels of a region within `thickness` of its edge; the border of the picture is no edge."""
    return region & ~ndimage.binary_erosion(region, iterations=thickness, border_value=1)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # its DejaVu Sans knows Greek, Cyrillic and accents; Pillow's own font does not

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _write(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, colour: tuple[int, int, int], most: int) -> None:
    """One line, cut with an ellipsis at `most` pixels."""
    font = _font(size)
    while text and font.getlength(text) > most:
        text = text.rstrip("…")[:-1].rstrip() + "…" if len(text) > 1 else ""
    pen.text(at, text, fill=colour, font=font)


def _legend(pen: ImageDraw.ImageDraw, y: int, names: Sequence[str], wide: int, size: int) -> None:
    x, box, gap = MARGIN, round(size * 9 / 11), round(size * 14 / 11)
    for name, colour in zip(names, COLOURS, strict=False):
        pen.rectangle((x, y + 3, x + box, y + 3 + box), outline=colour, width=2)
        _write(pen, (x + gap, y), name, size, PALE, wide - x - gap - MARGIN)
        x += gap + round(size * 18 / 11) + round(_font(size).getlength(name))
