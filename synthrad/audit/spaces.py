"""Feature spaces of an audit, by name or by config, and what they gave for real images, kept on disk.

`radiomics` and `structure` need no weights. A config names a class and its arguments (configs/features/<name>.yaml):

    class_path: synthrad.nets.feature_nets.TimmFeatures
    init_args: {model: resnet50, weights: weights/resnet50.safetensors}
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from synthrad.audit.task_net import TaskNet
from synthrad.class_paths import build
from synthrad.documents import read_yaml
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.metrics import features
from synthrad.nets.feature_nets import InceptionFeatures, TimmFeatures, TransformersFeatures

VERSION = 1  # raise by hand when what is kept changes
LIBRARIES = ("torch", "torchvision", "timm", "transformers")  # another version of one may give other rows
FORMULAS = {"radiomics": features.radiomics, "structure": lambda images: (rows := features.structure(images)) * rows.shape[1] ** 0.5}
OURS: dict[str, type] = {f"{c.__module__}.{c.__name__}": c for c in (InceptionFeatures, TimmFeatures, TransformersFeatures, TaskNet)}


class FeatureMap(Protocol):
    """Pictures to rows in which sets of them are compared.

    Attributes:
        name: for tables. identity: equal ones give equal rows. scaled: columns have units of their own and are put in standard
            deviations of the training images. sigma: of CMMD's kernel; None = the median distance of training images.
    """

    name: str
    identity: str
    scaled: bool
    sigma: float | None

    def __call__(self, images: Tensor) -> Tensor:
        """[n, C, H, W] in [-1, 1] to [n, d]."""


class Formulas:
    """Features without weights (metrics.features): nothing to fetch.

    Args:
        name: radiomics (first-order, texture, edge and layout features), or structure (what lies where, without grey levels and finest
            grain: KID's kernel of two images is then (r + 1)^3, r the correlation of their structures).
    """

    sigma = None

    def __init__(self, name: str):
        self.name, self.scaled, self._rows = name, name == "radiomics", FORMULAS[name]

    @property
    def identity(self) -> str:
        """Of the code: rows of another version are not believed."""
        source = inspect.getsource(features) + inspect.getsource(sys.modules[__name__])
        return hashlib.sha256((self.name + source).encode()).hexdigest()

    def __call__(self, images: Tensor) -> Tensor:
        """See FeatureMap."""
        return self._rows(images)


def load_space(given: str) -> FeatureMap | TaskNet:
    """The space that --features names.

    Raises:
        InputError: neither a name nor a config, another class, other arguments, or weights that are not there.
    """
    if given in FORMULAS:
        return Formulas(given)
    path = Path(given)
    if not path.is_file():
        raise InputError("--features", repr(given), f"{' or '.join(FORMULAS)}, or the file of a config", "see configs/features/")
    return build(read_yaml(path, "class_path and init_args"), str(path), OURS, "audit")


def rows_of(space: FeatureMap, images: Tensor, folder: Path | None = None) -> np.ndarray:
    """float32 [n, d]; read back where the same space has seen the very same pixels.

    Args:
        folder: of what is kept; None = nothing is. A file that is not whole, or was changed, is not believed.
    """
    path = None
    if folder is not None:
        pixels = hashlib.sha256(np.ascontiguousarray(images.numpy()).data).hexdigest()
        name = hashlib.sha256(json.dumps([VERSION, *map(version, LIBRARIES), space.identity, list(images.shape), pixels]).encode()).hexdigest()[:32]
        path = folder / f"{name}.npy"
        if (kept := read_kept(path)) is not None:
            return np.load(io.BytesIO(kept), allow_pickle=False)
    device = torch.device("cuda" if torch.cuda.is_available() and isinstance(space, nn.Module) else "cpu")
    if isinstance(space, nn.Module):
        space.to(device)
    rows = torch.cat([space(part.to(device)).float().cpu() for part in images.split(256)]).numpy()
    if rows.ndim != 2 or len(rows) != len(images) or not np.isfinite(rows).all():
        raise InputError("--features", f"{space.name}: rows of shape {rows.shape} for {len(images)} images, or NaN", "finite numbers, one row an image")
    if path is not None:
        buffer = io.BytesIO()
        np.save(buffer, rows)
        keep(path, buffer.getvalue())
    return rows


def read_kept(path: Path) -> bytes | None:
    """What `keep` wrote, if it is still that."""
    try:
        data, said = path.read_bytes(), path.with_suffix(".sha256").read_text()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == said else None


def keep(path: Path, data: bytes) -> None:
    """Write for later; its digest beside it comes last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, data)
    write_durably(path.with_suffix(".sha256"), hashlib.sha256(data).hexdigest().encode())


def folder_of(roots: Mapping[str, Any], here: str) -> Path | None:
    """Where features of a manifest's images are kept: beside its decoded images."""
    return Path(roots[here]) / ".cache" / "features" if here in roots else None
