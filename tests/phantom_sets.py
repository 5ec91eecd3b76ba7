"""Manifests of phantoms, and the ways in which a copy of one is changed, for the tests that look for copies between sets."""

import io

import numpy as np
import pandas as pd
from PIL import Image

from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.files import file_digest
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest


def jpeg(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=80)
    return np.array(Image.open(stream))


COPIES = {
    "jpeg": jpeg,
    "mirrored": lambda a: a[:, ::-1],
    "cropped": lambda a: a[4:-2, 3:-7],
    "larger": lambda a: np.array(Image.fromarray(a).resize((160, 90))),
    "smaller": lambda a: np.array(Image.fromarray(a).resize((84, 42))),
}


def write_set(folder, images, split="train", source="real", channels=("image",), lineage=None, subjects=None, name=None):
    """Write images as PNGs and their manifest: one subject each, or `subjects`; `split`: one for all, or a list."""
    (folder / "images").mkdir(parents=True)
    more = {} if lineage is None else {"lineage": lineage}
    info = DatasetInfo(name=name or folder.name, id=name or folder.name, classes=("caries",), channels=channels, roots={HERE: str(folder)}, **more)
    c = empty_columns(info, len(images))
    for k, image in enumerate(images):
        Image.fromarray(np.ascontiguousarray(image)).save(folder / "images" / f"{k}.png")
        for channel in channels:
            c[f"channel:{channel}"][k] = f"images/{k}.png"
        c["digest"][k] = file_digest(folder / "images" / f"{k}.png")
        c["subject"][k] = subjects[k] if subjects else f"{folder.name}{k}"
        c["label:caries"][k] = k % 2
    c["source"][:], c["split"][:] = source, split
    Manifest(pd.DataFrame(c), info).write(folder)
    return Manifest.read(folder)
