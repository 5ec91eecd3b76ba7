"""A study file: read, checked as a whole, its faults told as a user reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from synthrad.documents import read_yaml
from synthrad.errors import InputError, InputErrors
from synthrad.study.arm_strategies import build_cells, build_strategy
from synthrad.study.description import Part, Study, meant


def load_study(path: Path | str) -> Study:
    """Read and check a study file.

    Raises:
        InputErrors: all faults at once, each with its key.
    """
    path = Path(path)
    if not path.is_file():
        folder = path if path.is_dir() else path.parent
        there = sorted(str(p) for p in folder.glob("*.yaml")) if folder.is_dir() else []
        raise InputError(str(path), "a folder" if path.is_dir() else "no such file", "a study file",
                         f"there are: {', '.join(there)}" if there else "")
    data = read_yaml(path, "a study file")
    if not isinstance(data, dict):
        found = "an empty file" if data is None else f"a {type(data).__name__}"
        raise InputError(str(path), found, "a mapping with the keys of Study", "start from a file of configs/studies/")
    try:
        study = Study.model_validate(data)
    except ValidationError as e:
        raise InputErrors(str(path), [fault_of(error) for error in e.errors()]) from e
    build_cells(study.cells, f"{path}: cells")
    for name, arm in study.arms.items():
        build_strategy(arm, study.cells, f"{path}: arms.{name}")
    return study


def fault_of(error: Any, whole: type[Part] | None = None) -> str:
    """One fault of pydantic's as a user reads it: key, what is wrong, what was found. whole: what the file describes, None = Study."""
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "value_error":  # our own words; those of a check of the whole study name their key themselves
        return f"{key}: {error['ctx']['error']}" if key else str(error["ctx"]["error"])
    if error["type"] == "string_pattern_mismatch" and not str(error["input"]).strip() and error["ctx"]["pattern"] == r"\S":
        return f"{key}: found {error['input']!r}, expected a reason in words"
    if error["type"] == "string_pattern_mismatch":
        return f"{key}: found {error['input']!r}, expected lower case letters, digits and _ only: it is a folder's name"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key{meant(str(error['loc'][-1]), _keys_at(error['loc'][:-1], whole or Study))}"
    return f"{key}: {error['msg']}" + ("" if error["type"] == "missing" else f", found {error['input']!r}")


def _keys_at(loc: tuple[str | int, ...], kind: Any) -> list[str]:
    """The keys of the part of a file at a place: ("tasks", "teeth") of a Study -> those of Task."""
    for step in loc:
        if not _is_part(kind):  # dict[str, Part]: the step is a name that the file gives
            kind = get_args(kind)[-1]
            continue
        kind = kind.model_fields[step].annotation
        kind = next((a for a in get_args(kind) if type(None) in get_args(kind) and _is_part(a)), kind)
    return list(kind.model_fields) if _is_part(kind) else []


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Part)
