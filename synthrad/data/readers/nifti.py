"""Any tree of NIfTI volumes as slices: patterns say which files are channels and which are masks; or an nnU-Net dataset folder.

A pattern holds `*`, which stands for what tells cases apart: with `--channels t1=*_t1.nii.gz flair=*_flair.nii.gz --mask *_seg.nii.gz` the
files P7_t1.nii.gz, P7_flair.nii.gz and P7_seg.nii.gz are the case P7, in whatever folder; a pattern with a slash starts at ROOT, so that
`*/t1.nii.gz` names cases by their folders. Files of one case need the same text in place of each `*`.

Without --channels ROOT is an nnU-Net dataset: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, and dataset.json with channel_names and labels
(version 2) or modality and labels (version 1). imagesTs is left alone: its labels are elsewhere or nowhere.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthrad.data.inside import inside
from synthrad.data.leaks import hashed
from synthrad.data.pixel_values import declared_layers
from synthrad.data.subject_names import subject_names
from synthrad.data.volume_slices import (
    PLANES,
    SCALINGS,
    Case,
    add_slicing_options,
    choose_slices,
    fill,
    slicing_of,
)
from synthrad.data.writing import Draft, add_options, describe
from synthrad.documents import read_json
from synthrad.errors import InputError, InputErrors
from synthrad.lineage import project_key, pseudonym
from synthrad.records import Manifest

DESCRIPTION = "any tree of NIfTI volumes, as slices: by patterns of file names, or an nnU-Net dataset folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare nifti`."""
    parser.add_argument("root", metavar="ROOT", help="folder with the volumes")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument("--channels", nargs="+", default=[], metavar="NAME=PATTERN", help="e.g. t1=*_t1.nii.gz flair=*_flair.nii.gz, or "
                        "ct=imagesTr/*_0000.nii.gz; without it ROOT/dataset.json of nnU-Net is read")
    parser.add_argument("--mask", metavar="PATTERN", help="of mask files, e.g. *_seg.nii.gz; a case without one has no mask")
    parser.add_argument("--mask-classes", nargs="+", default=[], metavar="LAYER:VALUES", help="values and names: tumour:1=core,2=oedema. Several "
                        "layers read one mask: whole:1=whole,2=whole core:1=core")
    parser.add_argument("--subject-pattern", metavar="REGEX", help="its first group, searched for in the case's name, is the subject (default: "
                        "each case its own), e.g. '(sub-\\d+)' where a subject has several sessions")
    parser.add_argument("--hash-subjects", action="store_true", help="keep keyed hashes instead of subjects and case names, where these are identifiers")
    parser.add_argument("--plane", choices=PLANES, default="axial", help="default: axial")
    parser.add_argument("--scaling", nargs="+", default=["percentile", "0.5", "99.5"], metavar="RULE", help="of every volume alike: max (0 to the "
                        "volume's largest value), percentile LOW HIGH of the voxels that are not background (default: 0.5 99.5), fixed LOW HIGH "
                        "(values; for CT, e.g. fixed -160 240)")
    parser.add_argument("--pad", nargs=2, type=int, metavar=("H", "W"), help="put slices in the middle of this (default: as they are)")
    add_slicing_options(parser)
    add_options(parser)


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Find the cases, choose slices, keep them as PNGs with their masks.

    Raises:
        InputErrors: all faults at once: channels that a case lacks or has twice, volumes that cannot be read or do not lie on one grid,
            undeclared values of masks.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(str(root), "no such folder", "the folder of the volumes")
    channels, mask, specs = (_patterns(args), args.mask, args.mask_classes) if args.channels else _nnunet(root, args)
    if bool(mask) != bool(specs):
        raise InputError("--mask, --mask-classes", "one without the other", "both or neither", "say what the mask's values mean: tumour:1=tumour")
    layers = declared_layers(specs)
    how = slicing_of(args, args.plane, *_scaling(args.scaling), args.pad)
    if how.keep == "labelled" and not mask:
        raise InputError("--slices", "labelled, without --mask", "a mask to choose by", "add --mask and --mask-classes, or use --slices area")
    if args.bits == 16:
        args.intensity = args.intensity or (0, 65535)
    info = describe(args, root, layers={n.name: n.structures for n in layers}, channels=tuple(channels))
    cases = find_cases(root, channels, mask, args.subject_pattern)
    if args.hash_subjects:
        subjects = hashed(info.id, [case.subject for case in cases], args.subject_spellings, str(root), lambda k: f"{cases[k].channels[0]}: ")
        cases = [_hashed(case, subject, info.id) for case, subject in zip(cases, subjects, strict=True)]
    one_case_a_stem(cases, root)
    chosen = choose_slices(cases, how, root)
    with Draft(Path(out), root, info, sum(len(kept) for _, kept in chosen), str(root), args=args) as draft:
        fill(draft, cases, chosen, how, layers)
        return draft.finish(args)


def _patterns(args: argparse.Namespace) -> dict[str, str]:
    """Channel -> pattern."""
    channels: dict[str, str] = {}
    for spec in args.channels:
        name, equals, pattern = spec.partition("=")
        if not (equals and re.fullmatch(r"[\w.-]+", name)) or name in channels:
            raise InputError("--channels", repr(spec), "NAME=PATTERN, each name once, of letters, digits, _ . and -", "e.g. t1=*_t1.nii.gz")
        channels[name] = pattern
    stars = {p: p.count("*") for p in (*channels.values(), *([args.mask] if args.mask else []))}
    if len(set(stars.values())) != 1 or 0 in stars.values():
        found = ", ".join(f"{p} with {n}" for p, n in stars.items())
        raise InputError("--channels, --mask", found, "the same number of * in each, one at least", "* stands for what tells cases apart")
    return channels


def _scaling(words: Sequence[str]) -> tuple[str, tuple[float, float]]:
    try:
        rule, numbers = words[0], tuple(float(w) for w in words[1:])
    except ValueError:
        rule, numbers = "", ()
    if rule not in SCALINGS or len(numbers) != (0 if rule == "max" else 2):
        raise InputError("--scaling", " ".join(words), "max, percentile LOW HIGH or fixed LOW HIGH", "e.g. --scaling percentile 0.5 99.5")
    return rule, numbers or (0.0, 0.0)


def find_cases(root: Path, channels: Mapping[str, str], mask: str | None, subject_pattern: str | None) -> list[Case]:
    """Cases of a tree.

    Args:
        root: the tree. channels: name -> pattern. mask: pattern. subject_pattern: see add_arguments.

    Raises:
        InputError: nothing fits the first pattern. InputErrors: cases that lack a channel, have one twice, or a mask without images.
    """
    files = sorted(p for p in root.rglob("*") if p.name.endswith((".nii", ".nii.gz")) and not p.name.startswith("."))
    found = {name: _matches(root, files, pattern) for name, pattern in channels.items()}
    masks = _matches(root, files, mask) if mask else {}
    keys = sorted(set().union(*found.values()))
    if not keys:
        there = ", ".join(p.relative_to(root).as_posix() for p in files[:5]) or "no .nii or .nii.gz file"
        raise InputError(str(root), f"no file that fits {' or '.join(channels.values())} ({there}{' ...' if len(files) > 5 else ''})",
                         "volumes of that name", "correct --channels; put patterns in quotes, or the shell replaces them")
    names = [_name(key) for key in keys]
    subjects = subject_names(names, subject_pattern, str(root)) if subject_pattern else names
    faults, cases = [], []
    for key, name, subject in zip(keys, names, subjects, strict=True):
        of_case = {c: paths.get(key, []) for c, paths in found.items()} | ({"mask": masks[key]} if key in masks else {})
        faults += [f"{name}: no file for channel {c} ({channels[c]})" for c, p in of_case.items() if not p]
        faults += [f"{name}: {len(p)} files for {c}: {', '.join(map(str, p))}; write patterns with their folders" for c, p in of_case.items() if len(p) > 1]
        try:
            paths = {c: inside(root, p[0].relative_to(root)) for c, p in of_case.items() if p}
        except InputError as e:
            faults.append(str(e))
            continue
        cases.append(Case(subject, name, tuple(paths.get(c, root) for c in channels), paths.get("mask")))
    faults += [f"{_name(key)}: a mask without images ({masks[key][0]})" for key in sorted(set(masks) - set(keys))]
    if faults:
        raise InputErrors(str(root), faults)
    return cases


def _matches(root: Path, files: Sequence[Path], pattern: str) -> dict[tuple[str, ...], list[Path]]:
    """What stands for each * -> the files."""
    text = "([^/]*)".join(map(re.escape, pattern.split("*")))
    found: dict[tuple[str, ...], list[Path]] = {}
    for path in files:
        match = re.fullmatch(text, path.relative_to(root).as_posix() if "/" in pattern else path.name)
        if match:
            found.setdefault(match.groups(), []).append(path)
    return found


def _name(key: tuple[str, ...]) -> str:
    return "_".join(dict.fromkeys(part for part in key if part)) or "case"


def _hashed(case: Case, subject: str, dataset: str) -> Case:
    return Case(subject, pseudonym(dataset, case.stem, project_key()), case.channels, case.mask, case.attributes)


def one_case_a_stem(cases: Sequence[Case], root: Path) -> None:
    """Refuse cases whose pictures would have one name."""
    seen: dict[str, str] = {}
    for case in cases:
        if other := seen.get(case.stem.lower()):
            raise InputError(str(root), f"two cases named {case.stem} ({other} and {case.channels[0]})", "each name once", "rename one of them")
        seen[case.stem.lower()] = str(case.channels[0])


def _nnunet(root: Path, args: argparse.Namespace) -> tuple[dict[str, str], str | None, list[str]]:
    """Channels, mask pattern and layers of an nnU-Net dataset folder."""
    where = root / "dataset.json"
    if not where.is_file():
        raise InputError(str(root), "no --channels, and no dataset.json of nnU-Net", "one of them", "e.g. --channels t1=*_t1.nii.gz --mask *_seg.nii.gz "
                         "--mask-classes tumour:1=tumour")
    data = read_json(inside(root, "dataset.json"), "dataset.json of nnU-Net")
    try:
        names, labels = data.get("channel_names") or data["modality"], data["labels"]
        ending = str(data.get("file_ending", ".nii.gz"))
        values = {str(v): str(n) for v, n in labels.items()} if "0" in labels else {_value(v): str(n) for n, v in labels.items()}
        channels = {_word(n): f"imagesTr/*_{int(k):04d}{ending}" for k, n in names.items()}
        if len(channels) != len(names) or not channels:
            raise ValueError(f"the channel names {list(names.values())}")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(str(where), f"a file that is not as expected ({e!r})", "nnU-Net's dataset.json: channel_names (or modality) and labels "
                         "of whole numbers", "name the files with --channels, --mask and --mask-classes") from e
    structures = [f"{v}={_word(n)}" for v, n in values.items() if v != "0"]
    return channels, args.mask or f"labelsTr/*{ending}", args.mask_classes or [f"label:{','.join(structures)}"]


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).isdigit():
        raise ValueError(f"the label {value!r}: regions and ignore labels are not read")
    return str(int(value))


def _word(name: Any) -> str:
    return re.sub(r"[^\w.-]+", "_", str(name).strip()).lower()
