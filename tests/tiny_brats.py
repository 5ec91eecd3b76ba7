"""A small BraTS folder in its published layout, for tests."""

import nibabel
import numpy as np

SHAPE = (24, 20, 6)  # x, y, z; LPS, as BraTS has it
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
SEQUENCES = ("t1", "t1ce", "t2", "flair")


def volumes(seed):
    """A brain that fills slices 1 to 4 more and more, with a tumour in slices 2 to 4."""
    rng = np.random.default_rng(seed)
    made = {}
    for k, name in enumerate(SEQUENCES):
        v = np.zeros(SHAPE, np.int16)
        for z, half in enumerate((0, 2, 5, 7, 8, 0)):
            v[12 - half : 12 + half, 10 - half : 10 + half, z] = rng.integers(400, 1000, (2 * half, 2 * half))
        v[12, 10, 3] = 1000 * (k + 1)
        made[name] = v
    seg = np.zeros(SHAPE, np.uint8)
    seg[9:15, 8:13, 2:5] = 2
    seg[10:13, 9:12, 3:5] = 4
    seg[11, 10, 3] = 1
    return made | {"seg": seg}


def build(root, cases=8, style="BraTS20_Training_{:03d}", ending=".nii", without=()):
    """The published tree; without: (case number, what) that are left out."""
    for i in range(1, cases + 1):
        name = style.format(i)
        folder = root / "MICCAI_BraTS2020_TrainingData" / name
        folder.mkdir(parents=True)
        for what, v in volumes(i).items():
            if (i, what) not in without:
                nibabel.save(nibabel.Nifti1Image(v, AFFINE), folder / f"{name}_{what}{ending}")
    return root
