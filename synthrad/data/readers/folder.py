"""Folders of PNG or JPEG images: one a class, or images beside masks of equal names.

Class folders (as torchvision's ImageFolder reads them): ROOT/CLASS/.../image.png, one label a class. With --masks: ROOT/images/.../a.jpg with
ROOT/masks/.../a.png, one mask folder a layer. Names of splits may stand before either, ROOT/train/CLASS or ROOT/train/images, where
--split-folders says which they are.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from synthrad.data.images import read_image
from synthrad.data.inside import inside
from synthrad.data.pixel_values import Layer, lookup_table, parse_values, read_layer
from synthrad.data.subject_names import subject_names
from synthrad.data.writing import Draft, add_options, describe
from synthrad.errors import Fault, InputError, InputErrors
from synthrad.manifest_table import SPLITS
from synthrad.records import Manifest

DESCRIPTION = "folders of images: one a class, or images and masks of equal names"
ENDINGS = (".png", ".jpg", ".jpeg")
OTHERS = (".bmp", ".dcm", ".gif", ".jp2", ".nii", ".gz", ".tif", ".tiff", ".webp")  # images that would go missing without a word
NEARLY_ALL = 0.9  # of a folder's files: then equal names are no chance
FEW_GREYS = 8  # values of a picture that seems to be a mask
_MASKS = re.compile(r"mask|label|segm|annotation|ground.?truth", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare folder`."""
    parser.add_argument("root", metavar="ROOT", help="folder that holds the class folders, or the folders of images and masks")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument("--normal", metavar="CLASS", help="class folder of images without any finding: no label of its own, all others are 0")
    parser.add_argument("--masks", nargs="+", default=[], metavar="FOLDER", help="mask folders in ROOT; then there are no classes")
    parser.add_argument("--images", default="images", metavar="FOLDER", help="with --masks: the folder of the images (default: images)")
    parser.add_argument("--mask-classes", nargs="+", default=[], metavar="LAYER:VALUES", help="layer and values of each mask folder, in order: "
                        "tumour:255=tumour")
    parser.add_argument("--mask-suffix", default="", metavar="TEXT", help="what mask names have more than image names: _mask")
    parser.add_argument("--split-folders", nargs="+", default=[], metavar="NAME=SPLIT", help="folders of ROOT that are splits, e.g. train=train "
                        "valid=val test=test (instead of --fractions)")
    parser.add_argument("--subject-pattern", dest="subject", metavar="REGEX", help="its first group, searched for in the path from ROOT, is the "
                        "subject (default: each image its own)")
    add_options(parser)


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Find images, classes and masks.

    Raises:
        InputErrors: all faults at once: images outside of a class folder, masks without an image, files that cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(str(root), "no such folder", "the folder of the images")
    _check(args)
    layers = _layers(args)
    splits = _splits(args.split_folders)
    names = [n for n in _files(root) if not layers or args.images in _parts(n, splits)[:1]]
    if not names:
        where = f"{root}/{args.images}" if layers else str(root)
        raise InputError(where, "no PNG or JPEG image", "images" + " beside the masks" * bool(layers), "correct ROOT or --images; convert other formats")
    classes = [] if layers else _classes(root, names, splits, args.normal)
    masks = [_mask_files(root, folder, args, splits, names) for folder in args.masks]
    info = describe(args, root, classes=tuple(c for c in classes if c != args.normal), layers={n.name: n.structures for n in layers})
    with Draft(Path(out), root, info, len(names), str(root), args=args) as draft:
        _fill(draft, names, splits, args)
        stems = _stems(names)

        def one(row: int) -> None:
            shape = draft.add_image(row, [names[row]])
            found = {layer.name: of.get(names[row]) for layer, of in zip(layers, masks, strict=True)}
            draft.add_masks(row, stems[row], {
                layer.name: read_layer(root, path, layer, shape) if (path := found[layer.name]) else None for layer in layers})
            for name in info.classes:
                draft.columns[f"label:{name}"][row] = float(_parts(names[row], splits)[0] == name)

        draft.each(one, "reading images", line=False)
        return draft.finish(args)


def _check(args: argparse.Namespace) -> None:
    if len(args.masks) != len(args.mask_classes) or len(set(args.masks)) < len(args.masks):
        raise InputError("--masks, --mask-classes", f"{len(args.masks)} folder(s) and {len(args.mask_classes)} layer(s)", "one layer a folder, "
                         "each folder once", "e.g. --masks masks --mask-classes tumour:255=tumour")
    if args.masks and args.normal:
        raise InputError("--masks, --normal", "both", "one of them", "--normal belongs to class folders")
    if args.split_folders and args.fractions:
        raise InputError("--split-folders, --fractions", "both", "one of them", "drop --fractions to keep the folders' splits")


def _layers(args: argparse.Namespace) -> list[Layer]:
    layers = []
    for folder, (name, values) in zip(args.masks, map(parse_values, args.mask_classes), strict=True):
        structures = tuple(dict.fromkeys(values.values()))
        if name in [layer.name for layer in layers] or len(structures) > 254:
            raise InputError("--mask-classes", f"{name}: {len(structures)} structures", "each layer once, with at most 254 structures")
        layers.append(Layer(name, folder, structures, lookup_table(values, structures)))
    return layers


def _splits(specs: Sequence[str]) -> dict[str, str]:
    """Folder -> split."""
    pairs = [spec.partition("=") for spec in specs]
    if wrong := [f"{a}{eq}{b}" for a, eq, b in pairs if not a or b not in SPLITS]:
        raise InputError("--split-folders", repr(wrong[0]), f"NAME=SPLIT, a split among {', '.join(SPLITS)}", "e.g. train=train valid=val test=test")
    return {folder: split for folder, _, split in pairs}


def _files(root: Path) -> list[str]:
    """Image files below the root, as paths from it.

    Raises:
        InputError: images of other formats.
    """
    files = sorted(p for p in root.rglob("*") if not any(part.startswith(".") for part in p.relative_to(root).parts))
    if others := [p for p in files if p.suffix.lower() in OTHERS]:
        kinds = ", ".join(f"{n} {ending}" for ending, n in Counter(p.suffix.lower() for p in others).items())
        raise InputError(str(root), f"{kinds} file(s), the first {others[0].relative_to(root)}", "PNG and JPEG images only",
                         "convert them, or put them elsewhere; DICOM and NIfTI have readers of their own")
    return [p.relative_to(root).as_posix() for p in files if p.suffix.lower() in ENDINGS and not p.is_dir()]


def _parts(name: str, splits: dict[str, str]) -> tuple[str, ...]:
    """Folders of a path behind its split, and the file's name."""
    parts = PurePosixPath(name).parts
    return parts[1:] if splits and parts[0] in splits else parts


def _classes(root: Path, names: Sequence[str], splits: dict[str, str], normal: str | None) -> list[str]:
    if outside := [n for n in names if len(_parts(n, splits)) < 2]:
        raise InputErrors(str(root), [f"{n}: an image outside of a class folder" for n in outside])
    found = sorted({_parts(n, splits)[0] for n in names})
    if normal is not None and normal not in found:
        raise InputError("--normal", repr(normal), f"a class folder of {root}: {', '.join(found[:40])}")
    _refuse_masks(root, names, splits, found)
    if not set(found) - {normal}:
        raise InputError(str(root), f"the class folder {found[0]} alone", "a class with a label", "give the folder that holds the class folders")
    return found


def _refuse_masks(root: Path, names: Sequence[str], splits: dict[str, str], classes: Sequence[str]) -> None:
    """Refuse class folders of which one holds the masks of another: equal names, and a folder's name or grey values that are those of masks.

    Equal names alone say little: 0001.png of every class is usual.
    """
    files = {c: {PurePosixPath(*_parts(n, splits)[1:]).with_suffix(""): n for n in names if _parts(n, splits)[0] == c} for c in classes}
    for masks in classes:
        for images in classes:
            shared = len(files[masks].keys() & files[images].keys())
            if masks == images or shared < NEARLY_ALL * len(files[masks]) or not (_MASKS.search(masks) or _few_greys(root, list(files[masks].values()))):
                continue
            raise InputError(str(root), f"class folders {images} and {masks} with {shared} files of equal names: {masks} seems to hold masks, not images",
                             "images of one class a folder, or images beside masks",
                             f"add --images {images} --masks {masks} --mask-classes LAYER:255=STRUCTURE; if both are classes, rename one folder's files")


def _few_greys(root: Path, names: Sequence[str]) -> bool:
    """Whether the first, middle and last of the files hold few grey values each."""
    return all(np.unique(read_image(inside(root, names[k]))).size <= FEW_GREYS for k in {0, len(names) // 2, len(names) - 1})


def _mask_files(root: Path, folder: str, args: argparse.Namespace, splits: dict[str, str], names: Sequence[str]) -> dict[str, str]:
    """Image -> mask, both as paths from the root.

    Raises:
        InputErrors: two masks of one image, masks without an image, links that lead out.
    """
    stems = {_key(n, args.images, "", splits): n for n in names}
    faults = [f"{n}: another image has the same name but for the ending" for n in names if stems[_key(n, args.images, "", splits)] != n]
    found: dict[str, str] = {}
    for name in _files(root):
        if folder not in _parts(name, splits)[:1]:
            continue
        fits = PurePosixPath(name).stem.endswith(args.mask_suffix)
        image = stems.get(_key(name, folder, args.mask_suffix, splits)) if fits else None
        try:
            inside(root, name)
            if image is None:
                raise InputError(name, "a mask without an image", f"an image of that name in {args.images}", "correct --images or --mask-suffix")
            if image in found:
                raise InputError(name, f"a second mask, beside {found[image]}", "one an image and mask folder")
            found[image] = name
        except InputError as e:
            faults.append(Fault.of("", e, numbered=True))
    if not found and not faults:
        faults.append(f"{folder}: no PNG or JPEG mask in this folder; correct --masks")
    if faults:
        raise InputErrors(str(root), faults)
    return found


def _key(name: str, folder: str, suffix: str, splits: dict[str, str]) -> tuple[str, ...]:
    """What an image and its mask share: split, folders below theirs, and the name without ending and suffix."""
    path = PurePosixPath(name)
    split = path.parts[0] if splits and path.parts[0] in splits else ""
    below = PurePosixPath(*_parts(name, splits)).relative_to(folder)
    return split, below.parent.as_posix(), below.stem.removesuffix(suffix)


def _fill(draft: Draft, names: Sequence[str], splits: dict[str, str], args: argparse.Namespace) -> None:
    """Subjects, and splits where folders say them."""
    draft.columns["subject"][:] = subject_names(names, args.subject, str(draft.root))
    if not splits:
        return
    draft.columns["split"][:] = [splits.get(PurePosixPath(n).parts[0], "") for n in names]
    draft.join_spellings(args)
    owner: dict[str, str] = {}
    for row, (name, subject, split) in enumerate(zip(names, draft.columns["subject"], draft.columns["split"], strict=True)):
        if not split:
            draft.fault(-1, f"{name}: in no folder that --split-folders names ({', '.join(splits)})")
        elif owner.setdefault(subject, split) != split:
            draft.fault(-1, f"{name}: subject {subject!r} is in {owner[subject]}, too; a subject belongs to one split (row {row + 1})")
    draft.raise_faults()


def _stems(names: Sequence[str]) -> list[str]:
    plain = [PurePosixPath(n).stem for n in names]
    if len({p.lower() for p in plain}) == len(plain):
        return plain
    joined = ["_".join(PurePosixPath(n).parts) for n in names]
    return joined if len({p.lower() for p in joined}) == len(joined) else [f"{i:06d}_{p}" for i, p in enumerate(plain)]
