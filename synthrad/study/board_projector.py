"""TensorBoard's projector: real and synthetic images as points of the radiomics space, each with its thumbnail.

The thumbnails show patients: the folder is as private as the images are.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from synthrad.data.cache import ImageCache
from synthrad.data.images import fit
from synthrad.files import write_durably
from synthrad.metrics.features import LEAST_SIZE, Standardizer, radiomics
from synthrad.records import Manifest

MOST = 600  # points: the browser moves them all
MOST_A_SET = 150
MOST_CLASSES = 20  # columns of the metadata
SIDE = 48  # pixels: longer side of a thumbnail
CONFIG = "projector_config.pbtxt"


def write_projector(folder: Path, sets: Mapping[str, Manifest], arms: Mapping[str, Sequence[str]], size: Sequence[int], seed: int = 0) -> str:
    """Write features, metadata, thumbnails and `projector_config.pbtxt` into the folder of a TensorBoard run.

    Features are in standard deviations of the first set, so that TensorBoard's own principal components weigh them alike.

    Args:
        sets: name -> images, real training images first; of each some hundred at most are drawn by `seed`.
        arms: name of a set -> arms that train on it. size: (height, width) in pixels at which they are compared.

    Returns:
        "", or why there is nothing to show.
    """
    if min(size) < LEAST_SIZE:
        return f"projector: needs images of {LEAST_SIZE} pixels a side, has {size[0]} × {size[1]}"
    sets = {name: rows for name, rows in sets.items() if len(rows)}
    first = next(iter(sets.values()), ())
    if len(first) < 2:
        return f"projector: needs 2 real training images, has {len(first)}"
    most = min(MOST_A_SET, MOST // len(sets))
    features, thumbnails, table = [], [], []
    for k, (name, rows) in enumerate(sets.items()):
        rng = np.random.default_rng([seed, k])
        drawn = rows.take(np.sort(rng.permutation(len(rows))[:most]))
        cache = ImageCache(drawn, (int(size[0]), int(size[1])))
        pixels = np.stack([cache.scaled(i) for i in range(len(drawn))])
        features.append(radiomics(torch.from_numpy(pixels)).numpy())
        trained = ", ".join(arms.get(name, ())) or "none"
        thumbnails += [_thumbnail(p[0]) for p in pixels]
        table += [[name, trained, *cells] for cells in _labels(drawn)]
    scale = Standardizer.fit(features[0])
    head = ["set", "arms", "labels", *first.info.classes[:MOST_CLASSES]]
    _write(folder, scale(np.concatenate(features)), [head, *table], thumbnails)
    return ""


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    """[h, w] in [-1, 1] to uint8, the longer side SIDE."""
    shrink = SIDE / max(pixels.shape)
    size = (max(1, round(pixels.shape[0] * shrink)), max(1, round(pixels.shape[1] * shrink)))
    return fit(((pixels + 1) * 127.5).round().astype(np.uint8), size, "squeeze")


def _labels(manifest: Manifest) -> list[list[str]]:
    """Of each row: all findings in one cell, then one cell a class."""
    table = []
    for row in manifest.labels:
        known = {c: "unknown" if np.isnan(v) else "yes" if v == 1 else "no" for c, v in zip(manifest.info.classes, row, strict=True)}
        found = ", ".join(c for c, v in known.items() if v == "yes")
        table.append([found or ("no finding" if set(known.values()) == {"no"} else "unknown"), *list(known.values())[:MOST_CLASSES]])
    return table


def _write(folder: Path, features: np.ndarray, table: Sequence[Sequence[Any]], thumbnails: Sequence[np.ndarray]) -> None:
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    home = folder / "projector"
    home.mkdir(parents=True, exist_ok=True)
    write_durably(home / "features.tsv", "".join("\t".join(f"{v:.4f}" for v in row) + "\n" for row in features).encode())
    write_durably(home / "metadata.tsv", "".join("\t".join(" ".join(c.split()) for c in row) + "\n" for row in table).encode())
    high, wide = thumbnails[0].shape
    columns = math.ceil(math.sqrt(len(thumbnails)))  # the projector takes a sprite to be as many images wide as high
    sprite = np.zeros((columns * high, columns * wide), np.uint8)
    for k, picture in enumerate(thumbnails):
        y, x = divmod(k, columns)
        sprite[y * high : (y + 1) * high, x * wide : (x + 1) * wide] = picture
    buffer = io.BytesIO()
    Image.fromarray(sprite).save(buffer, format="PNG")
    write_durably(home / "sprite.png", buffer.getvalue())
    config = ProjectorConfig()
    shown = config.embeddings.add(tensor_name="radiomics features", tensor_path="projector/features.tsv", metadata_path="projector/metadata.tsv")
    shown.tensor_shape.extend(features.shape)
    shown.sprite.image_path = "projector/sprite.png"
    shown.sprite.single_image_dim.extend([wide, high])
    write_durably(folder / CONFIG, text_format.MessageToString(config).encode())
