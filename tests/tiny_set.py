"""A small dataset of squares for the tests of data module, tasks and command line."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.files import file_digest
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest


def make(folder, rows=24, source="real", seed=0, name="tiny", lineage=None):
    folder = Path(folder)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(seed)
    from synthrad.lineage import Fitted, Lineage

    unknown = Lineage((Fitted("generator", origin="unknown"),) if source == "synthetic" else ())
    info = DatasetInfo(
        name=name,
        id=name,
        classes=("caries", "implant"),
        layers={"tooth": ("crown", "root")},
        attributes=("sex",),
        roots={HERE: str(folder)},
        lineage=lineage or unknown,
    )
    c = empty_columns(info, rows)
    for i in range(rows):
        a = rng.normal(100, 10, (32, 32))
        m = np.zeros((32, 32), np.uint8)
        y, x = rng.integers(2, 18, 2)
        a[y : y + 10, x : x + 10] += 90
        m[y : y + 10, x : x + 10] = 1
        lab = i % 2
        if lab:
            a[y + 10 : y + 13, x : x + 10] += 50
            m[y + 10 : y + 13, x : x + 10] = 2
        Image.fromarray(a.clip(0, 255).astype(np.uint8)).save(folder / f"images/{i}.png")
        Image.fromarray(m).save(folder / f"masks/{i}.png")
        c["channel:image"][i] = f"images/{i}.png"
        c["mask:tooth"][i] = "" if (i % 5 == 4 and source == "real") else f"masks/{i}.png"
        c["digest"][i] = file_digest(folder / f"images/{i}.png")
        c["mask_digest"][i] = file_digest(folder / f"masks/{i}.png")
        c["subject"][i] = f"{source}{i // 2}"
        c["label:caries"][i] = lab
        c["label:implant"][i] = np.nan if i % 7 == 0 else float((i // 2) % 3 == 0)
        c["attribute:sex"][i] = "mf"[i % 2]
        c["area:tooth/crown"][i] = float((m == 1).mean())
        c["area:tooth/root"][i] = float((m == 2).mean())
    c["source"][:] = source
    c["split"][:] = "train"
    if source == "real":
        q = rows // 6 // 2 * 2
        c["split"][-q:] = "test"
        c["split"][-2 * q : -q] = "val"
        c["split"][-3 * q : -2 * q] = "audit"
    Manifest(pd.DataFrame(c), info).write(folder)
    return Manifest.read(folder)
