"""Gate: mutated NIfTI volumes, packed and not, and COCO files: read, or refused by file and reason.

Short forms: tests/data/test_nifti.py, test_coco.py; how they are judged: tests/test_hostile_files.py.
"""

import json

import nibabel
import numpy as np
import pytest
from forks import forks
from mutants import in_place, judged, mutants, of_bytes, of_tree, told
from test_hostile_files import encoded
from test_hostile_paths import Watch, hostile, links, world

pytestmark = [pytest.mark.gate, forks]
NUMBER = 100  # of each


def volumes(root, ending: str):
    """Six cases of a channel and a mask; the victim, the command."""
    root.mkdir()
    rng = np.random.default_rng(0)
    for k in range(6):
        values = rng.integers(0, 400, (12, 14, 5)).astype(np.int16)
        for name, array in (("t1", values), ("seg", (values > 300).astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), root / f"c{k}_{name}.{ending}")
    return root / f"c2_t1.{ending}", ["prepare", "nifti", str(root), str(root.parent / "out"), "--channels", f"t1=*_t1.{ending}", "--mask", f"*_seg.{ending}",
                                      "--mask-classes", "spot:1=spot", "--skip-near-copies"]


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_mutated_volumes(tmp_path, tally, ending):
    path, argv = volumes(tmp_path / "root", ending)
    assert told(argv, path.name) == ""
    made = mutants(path.read_bytes(), of_bytes, NUMBER, ending)
    tally("Mutated files", NUMBER, [f"{ending}, mutant {k}: {w}" for k, w in enumerate(judged(made, in_place(path, argv))) if w])


def coco(root):
    root.mkdir()
    for k in range(6):
        (root / f"{k}.png").write_bytes(encoded("PNG", seed=k))
    marks = [{"id": k, "image_id": k, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0, "segmentation": [[2, 2, 11, 2, 11, 11, 2, 11]]} for k in range(6)]
    data = {"images": [{"id": k, "file_name": f"{k}.png", "height": 24, "width": 32} for k in range(6)], "annotations": marks, "categories": [{"id": 1, "name": "spot"}]}
    (root / "a.json").write_text(json.dumps(data))
    return root / "a.json", ["prepare", "coco", str(root), str(root.parent / "out"), "--annotations", str(root / "a.json"), "--skip-near-copies"]


def test_mutated_coco(tmp_path, tally):
    path, argv = coco(tmp_path / "root")
    assert told(argv, path.name) == ""
    made = mutants(path.read_bytes(), of_tree, NUMBER, "coco")
    tally("Mutated files", NUMBER, [f"COCO, mutant {k}: {w}" for k, w in enumerate(judged(made, in_place(path, argv))) if w])


def test_paths_in_coco(tmp_path, tally):
    root, target = world(tmp_path)
    path, argv = coco(root)
    links(root, target)
    sound, names, watches = json.loads(path.read_text()), hostile(root, target), []

    def take(name: str) -> str:
        if not watches:
            watches.append(Watch(target.parent, tmp_path / "rooted"))
        sound["images"][2]["file_name"] = name
        path.write_text(json.dumps(sound))
        wrong = told(argv, "")
        opened, watches[0].opened = watches[0].opened, []
        return wrong or "; ".join(opened)

    tally("Hostile paths", len(names), [f"COCO, {n[:60]!r}: {w}" for n, w in zip(names, judged(names, take), strict=True) if w])
