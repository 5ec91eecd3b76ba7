"""BraTS 2020 and 2021 (Menze et al., IEEE TMI 2015; Baid et al., arXiv 2107.02314): one folder a case, four sequences and their labels.

`BraTS20_Training_001/BraTS20_Training_001_{t1,t1ce,t2,flair,seg}.nii(.gz)`, likewise `BraTS2021_00000`, at any depth. Labels: 1 necrotic and
non-enhancing core, 2 oedema, 4 enhancing tumour; cases without a seg file (validation) have no mask. BraTS20_Training_355 holds its labels as
`W39_1998.09.19_Segm.nii`, and so they are read. name_mapping.csv, where it lies in ROOT, gives the attribute grade.

Slices and grey values follow Akbar et al. (Scientific Data 2024) as in their code: each volume divided by its largest value, padded to 256 x
256, and a slice is kept where more than 15 % of these pixels have T1 above 50 of 255. Where only such slices are tested, Dice of a subject is
that of its kept slices, stacked; with `--slices all` that of its volume.

Without --id the names of the cases say which set it is (brats2020, brats2021), so that the overlap of both is known whatever ROOT is called.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from synthrad.data.inside import inside
from synthrad.data.pixel_values import declared_layers
from synthrad.data.tables import read_table
from synthrad.data.volume_slices import Case, add_slicing_options, choose_slices, fill, slicing_of
from synthrad.data.writing import Draft, add_options, describe
from synthrad.errors import InputError, InputErrors
from synthrad.records import Manifest

DESCRIPTION = "BraTS 2020 and 2021: NIfTI folders of T1, T1ce, T2, FLAIR and tumour labels, as slices"
CHANNELS = ("t1", "t1ce", "t2", "flair")
TUMOUR = ("tumour:1=necrotic,2=oedema,4=enhancing",)
REGIONS = ("whole:1=whole,2=whole,4=whole", "core:1=core,4=core", "enhancing:4=enhancing")  # of the challenge's scores; nested
MISNAMED = {"BraTS20_Training_355": re.compile(r"W39_1998\.09\.19_Segm\.nii(\.gz)?", re.IGNORECASE)}
CORPORA = {"brats20_": "brats2020", "brats2021_": "brats2021"}  # start of a case's name -> id of its set
_FILE = re.compile(r"(?P<case>BraTS.+)_(?P<what>t1|t1ce|t2|flair|seg)\.nii(\.gz)?", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare brats`."""
    parser.add_argument("root", metavar="ROOT", help="folder with the cases' folders, at any depth")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument("--regions", action="store_true", help="layers whole, core and enhancing, as the challenge scores them, instead of "
                        "one layer tumour with necrotic, oedema and enhancing")
    parser.add_argument("--scaling", choices=("max", "percentile"), default="max", help="white is a volume's largest value (default, as Akbar et "
                        "al.), or black and white are the 0.5th and 99.5th percentile of its voxels that are not background")
    parser.add_argument("--pad", nargs=2, type=int, default=(256, 256), metavar=("H", "W"), help="put slices in the middle of this (default: 256 256)")
    add_slicing_options(parser)
    add_options(parser)


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Find the cases, choose slices, keep them as PNGs with their masks.

    Raises:
        InputErrors: all faults at once: missing or doubled sequences, volumes that cannot be read or do not lie on one grid, unknown labels.
    """
    root = Path(root)
    how = slicing_of(args, "axial", args.scaling, (0.5, 99.5), args.pad)
    layers = declared_layers(REGIONS if args.regions else TUMOUR)
    grades = _grades(root)
    cases = find_cases(root, grades)
    if args.bits == 16:
        args.intensity = args.intensity or (0, 65535)
    info = describe(args, root, layers={n.name: n.structures for n in layers}, channels=CHANNELS, attributes=("grade",) * bool(grades),
                    licence="terms of use of the BraTS challenge")
    info = replace(info, id=args.id or corpus_id(cases) or info.id)
    chosen = choose_slices(cases, how, root)
    with Draft(Path(out), root, info, sum(len(kept) for _, kept in chosen), str(root), args=args) as draft:
        fill(draft, cases, chosen, how, layers)
        return draft.finish(args)


def corpus_id(cases: Sequence[Case]) -> str:
    """brats2020 or brats2021 where all cases are named as that set's, else ""."""
    named = {next((i for start, i in CORPORA.items() if case.subject.lower().startswith(start)), "") for case in cases}
    return named.pop() if len(named) == 1 else ""


def find_cases(root: Path, grades: dict[str, str]) -> list[Case]:
    """Cases under a folder, by name.

    Raises:
        InputError: no such folder, or no case in it. InputErrors: cases that lack a sequence or have one twice.
    """
    if not root.is_dir():
        raise InputError(str(root), "no such folder", "the folder of a BraTS download")
    files: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(root.rglob("*.nii*")):
        case, match = path.parent.name, _FILE.fullmatch(path.name)
        if match:
            files.setdefault(match["case"], {}).setdefault(match["what"].lower(), []).append(path)
        elif case in MISNAMED and MISNAMED[case].fullmatch(path.name):
            files.setdefault(case, {}).setdefault("seg", []).append(path)
    if not files:
        raise InputError(str(root), "no BraTS case", "files such as BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz at any depth",
                         "unpack the archive; volumes of other names are read by `synthrad prepare nifti`")
    faults, cases = [], []
    for case, found in sorted(files.items()):
        missing = [c for c in CHANNELS if c not in found]
        faults += [f"{case}: {what} is there {len(p)} times ({', '.join(map(str, p))}), expected once" for what, p in found.items() if len(p) > 1]
        if missing:
            folder = next(iter(found.values()))[0].parent
            faults.append(f"{case}: no {' and no '.join(missing)} in {folder}, expected {', '.join(CHANNELS)}; copy it again or leave the case out")
        if not missing:
            grade = {"grade": grades[case]} if case in grades else {}
            mask = found["seg"][0] if "seg" in found else None
            cases.append(Case(case, case, tuple(_path(root, found[c][0]) for c in CHANNELS), mask and _path(root, mask), grade))
    if faults:
        raise InputErrors(str(root), faults)
    return cases


def _path(root: Path, path: Path) -> Path:
    return inside(root, path.relative_to(root))


def _grades(root: Path) -> dict[str, str]:
    """Case -> HGG or LGG, from name_mapping.csv; {} where there is none."""
    found = sorted(root.rglob("name_mapping*.csv")) if root.is_dir() else []
    grades: dict[str, str] = {}
    for path in found:
        table = read_table(_path(root, path))
        columns = [c for c in table if re.fullmatch(r"BraTS_?20(20|21)_subject_ID", c, re.IGNORECASE)]
        if len(columns) != 1 or "Grade" not in table:
            raise InputError(str(path), f"the columns {', '.join(table)}", "Grade and BraTS_2020_subject_ID", "take the file away to do without grades")
        grades |= {case: grade.strip() for case, grade in zip(table[columns[0]], table["Grade"], strict=True) if grade.strip() not in ("", "NA")}
    return grades
