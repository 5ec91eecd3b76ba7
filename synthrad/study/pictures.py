"""Pictures of the report: real beside synthetic beside the nearest training image, with mask contours.

A synthetic image that is a copy shows itself here: its nearest training image looks the same and the printed
correlation lies above what held-out real images reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthrad.data.images import fit, read_image, read_mask
from synthrad.metrics.similarity import nearest_images
from synthrad.records import Manifest
from synthrad.study.plots import COLOURS, STYLE, WIDTH, as_uri

SIDE = 32  # pixels: side of the thumbnails that are compared
HEIGHT = 256  # pixels: no picture is kept taller than this
NAMED = 8  # structures that get a colour and a name of their own; more share the colours without a legend


@dataclass(frozen=True)
class Picture:
    """One image as drawn: [H, W] uint8 grey, one bool [H, W] for each `layer/structure` in it, and its caption."""

    image: np.ndarray
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    caption: str = ""


@dataclass(frozen=True)
class Triplet:
    """A real image of the same labels, a synthetic image, and the training image nearest to that."""

    real: Picture
    synthetic: Picture
    nearest: Picture


def nearest(train: Manifest, others: Manifest, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Nearest training row of each other row, also left-right mirrored, by correlation of thumbnails.

    What `score` wrote (score:max_correlation, origin:nearest) is taken where every row has it.

    Returns:
        int [rows of others]: positions in `train`; float [rows of others]: correlations in [-1, 1].
    """
    if not len(others):
        return np.zeros(0, dtype=int), np.zeros(0)
    digests = {d: i for i, d in enumerate(train.column("digest")) if d}
    written = {"origin:nearest", "score:max_correlation"} <= set(others.table.columns)
    if written and all(d in digests for d in others.column("origin:nearest")):
        position = np.array([digests[d] for d in others.column("origin:nearest")], dtype=int)
        return position, others.column("score:max_correlation").astype(float)
    found = nearest_images(_thumbnails(others, side), _thumbnails(train, side), flip=True)
    return found.index, found.correlation


def _thumbnails(manifest: Manifest, side: int) -> np.ndarray:
    """[rows, side, side] uint8 or uint16, squeezed."""
    return np.stack([fit(read_image(record.channels[0]), (side, side), "squeeze") for record in manifest])


def triplets(train: Manifest, synthetic: Manifest, number: int = 6, seed: int = 0) -> list[Triplet]:
    """Triplets to show: half drawn at random by `seed`, half those most similar to a training image (see `nearest`)."""
    if not len(train) or not len(synthetic):
        return []
    position, similarity = nearest(train, synthetic)
    rng = np.random.default_rng(seed)
    random = rng.permutation(len(synthetic))[: number - number // 2].tolist()
    close = [int(i) for i in np.argsort(-similarity, kind="stable") if i not in random][: number // 2]
    out = []
    for i in random + close:
        how = "drawn at random" if i in random else "among the most similar"
        real, near = _alike(train, synthetic, i, rng), int(position[i])
        out.append(
            Triplet(
                real=picture_of(train, real, _said("real", _labels(train, real))),
                synthetic=picture_of(synthetic, i, f"{_said('synthetic', _labels(synthetic, i))} ({how})"),
                nearest=picture_of(train, near, _said(_labels(train, near), f"correlation {similarity[i]:.2f}", "; ")),
            )
        )
    return out


def draw_triplets(rows: Sequence[Triplet]) -> str:
    """Three columns, one row a triplet, contours of the masks on top; a PNG data URI."""
    if not rows:
        return ""
    height, width = rows[0].synthetic.image.shape
    structures = structures_of(rows)
    titles = ("real, alike in known labels", "synthetic", "nearest training image")
    tall = min(WIDTH / 3 * height / width, 2.6) + 0.22
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(
            figsize=(WIDTH, tall * len(rows) + 0.3 + 0.3 * bool(structures)), layout="constrained"
        )
        grid = figure.subplots(len(rows), 3, squeeze=False)
        for line, row in zip(grid, rows, strict=True):
            for axes, picture in zip(line, (row.real, row.synthetic, row.nearest), strict=True):
                show(axes, picture, structures)
        for axes, title in zip(grid[0], titles, strict=True):
            axes.set_title(title, loc="left", fontsize=9)
        if structures and len(structures) <= NAMED:
            lines = [Line2D([], [], color=COLOURS[k % 7], label=name[1]) for name, k in structures.items()]
            figure.legend(handles=lines, loc="outside lower left", ncols=5, frameon=False, fontsize=8)
        return as_uri(figure, dpi=130)


def grid(manifest: Manifest, number: int = 12, columns: int = 4, seed: int = 0) -> str:
    """Images drawn at random by `seed`, with their mask contours; a PNG data URI ("" for an empty manifest)."""
    rows = np.random.default_rng(seed).permutation(len(manifest))[:number]
    if not len(rows):
        return ""
    pictures = [picture_of(manifest, int(i), _labels(manifest, int(i))) for i in rows]
    structures = structures_of([Triplet(p, p, p) for p in pictures])
    lines = -(-len(pictures) // columns)
    height, width = pictures[0].image.shape
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(
            figsize=(WIDTH, lines * (WIDTH / columns * height / width + 0.22)), layout="constrained"
        )
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for place, picture in zip(axes, pictures, strict=False):
            show(place, picture, structures)
        for place in axes[len(pictures) :]:
            place.set_axis_off()
        return as_uri(figure, dpi=130)


def show(axes: Axes, picture: Picture, structures: dict[tuple[str, str], int], caption: bool = True) -> None:
    """An image at the window of its stored range, with the contours of its masks."""
    axes.imshow(picture.image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for (layer, name), k in structures.items():
        inside = picture.masks.get(f"{layer}/{name}")
        if inside is not None and inside.any() and not inside.all():
            axes.contour(inside, levels=[0.5], colors=[COLOURS[k % 7]], linewidths=0.9)
    axes.set_xticks([])
    axes.set_yticks([])
    if caption:
        axes.set_xlabel(_short(picture.caption), fontsize=6.5, color="#5c6b7a", labelpad=2)


def _short(text: str, longest: int = 58) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def structures_of(rows: Sequence[Triplet]) -> dict[tuple[str, str], int]:
    """(layer, structure) -> colour, of everything that any picture holds."""
    keys = {key: None for row in rows for p in (row.real, row.synthetic, row.nearest) for key in p.masks}
    return {tuple(key.split("/", 1)): k for k, key in enumerate(keys)}


def picture_of(manifest: Manifest, index: int, caption: str) -> Picture:
    """Read one row: first channel, stored range stretched to 0-255, never taller than HEIGHT pixels."""
    record, info = manifest[index], manifest.info
    stored = read_image(record.channels[0])
    low, high = float(info.intensity["low"]), float(info.intensity["high"])
    grey = np.clip((stored.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1) * 255
    shrink = min(1.0, HEIGHT / stored.shape[0], 2 * HEIGHT / stored.shape[1])
    size = (max(1, round(stored.shape[0] * shrink)), max(1, round(stored.shape[1] * shrink)))
    masks: dict[str, np.ndarray] = {}
    for (layer, names), path in zip(info.layers.items(), record.masks, strict=True):
        if path is None:
            continue
        values = fit(read_mask(path), size, "squeeze", nearest=True)
        masks |= {f"{layer}/{n}": values == k for k, n in enumerate(names, 1) if (values == k).any()}
    return Picture(fit(grey.astype(np.uint8), size, "squeeze"), masks, caption)


def _labels(manifest: Manifest, index: int) -> str:
    """Names of the positive labels, `no finding` without one, `labels unknown` without a known one, "" in a set without classes."""
    if not manifest.info.classes:
        return ""
    row = manifest[index].labels
    if np.isnan(np.asarray(row, float)).all():
        return "labels unknown"
    return ", ".join(c for c, v in zip(manifest.info.classes, row, strict=True) if v == 1) or "no finding"


def _said(first: str, second: str, between: str = ", ") -> str:
    """Both of them with something between, or the one that there is."""
    return between.join(x for x in (first, second) if x)


def _alike(train: Manifest, synthetic: Manifest, index: int, rng: np.random.Generator) -> int:
    """A training row drawn from those that share most known labels with the synthetic row."""
    if not train.info.classes:
        return int(rng.integers(len(train)))
    agree = (train.labels == synthetic.labels[index]).sum(1)
    return int(rng.choice(np.flatnonzero(agree == agree.max())))
