"""A manifest without files, and a folder whose files a stranger rewrote."""

import hashlib

import numpy as np
import pandas as pd
import yaml

from synthrad.dataset_info import DatasetInfo
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest


def make(folder, rows=6, name="d", source="real", **info):
    made = DatasetInfo(
        name,
        name,
        classes=("caries", "implant"),
        layers={"tooth": ("11", "12")},
        attributes=("sex",),
        roots={"here": str(folder), "images": "/elsewhere/images"},
        **info,
    )
    c = empty_columns(made, rows)
    c["root"][:] = "images"
    for i in range(rows):
        c["channel:image"][i], c["subject"][i], c["digest"][i] = f"{i}.png", f"s{i // 2}", f"{name}{i}"
        c["mask:tooth"][i] = f"masks/tooth/{i}.png" if i % 2 else ""
        c["split"][i] = "train" if i < rows - 2 else "test"
        c["label:caries"][i] = (0, 1, np.nan)[i % 3]
        c["area:tooth/11"][i] = 0.1 * i if i % 2 else np.nan
    c["source"][:] = source
    return Manifest(pd.DataFrame(c), made)


def edit(folder, change):
    """Change manifest.csv and make its digest fit, as a hand-made manifest would be."""
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    edited(folder, change(table).to_csv(index=False, lineterminator="\n"))


def edited(folder, text, **changes):
    """A manifest whose files a stranger rewrote, with a digest that agrees."""
    meta = yaml.safe_load((folder / "dataset.yaml").read_text())
    (folder / "manifest.csv").write_text(text)
    meta |= {**changes, "digest": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(meta))
    return folder
