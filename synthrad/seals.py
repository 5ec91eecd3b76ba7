"""Seals: which project wrote the rows and the lineage of a set, so that a lineage made or edited elsewhere is not taken for ours."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from synthrad.dataset_info import DatasetInfo
from synthrad.documents import read_yaml
from synthrad.errors import InputError
from synthrad.lineage import Lineage, key_id, known_key, project_key


def seal(info: DatasetInfo, digest: str) -> str:
    """This project's seal of a set: `<key id>:<keyed hash>`. digest: of the bytes of manifest.csv."""
    return _seal(info, digest, project_key())


def _seal(info: DatasetInfo, digest: str, key: bytes) -> str:
    """Only the project that wrote a set can write its seal again."""
    return f"{key_id(key)}:{hmac.new(key, b'synthrad seal' + bytes(1) + _sealed(info, digest), hashlib.sha256).hexdigest()}"


def _sealed(info: DatasetInfo, digest: str) -> bytes:
    """What a seal is over: rows and info, without roots."""
    plain = {k: v for k, v in info.to_dict().items() if k != "roots"}
    return f"{digest}\n{yaml.safe_dump(plain, sort_keys=True)}".encode()


def seal_says(folder: Path | str) -> str:
    """Who sealed the rows and the lineage of a set on disk: this project, another one or, in sets of older versions and edited ones, "nobody"."""
    meta, key = read_yaml(Path(folder) / "dataset.yaml", "a dataset.yaml written by synthrad") or {}, known_key()
    found = str(meta.get("seal") or "")
    return "nobody" if not found else "this project" if key and found.startswith(f"{key_id(key)}:") else "another project"


def checked_lineage(info: DatasetInfo, meta: Mapping[str, Any], where: str) -> Lineage:
    """The lineage as far as this project can check it: one that another project sealed, or nobody, is of unknown origin.

    Raises:
        InputError: this project's seal over something else, or a seal and no lineage.
    """
    key = known_key()
    lineage, found, own = info.lineage, str(meta.get("seal") or ""), key_id(key) if key else ""
    if not lineage.fitted and not found:
        return lineage
    repair = "run the command that made the set again; a set made elsewhere enters by `synthrad prepare table --synthetic`"
    if key and found.startswith(f"{own}:"):
        if hmac.compare_digest(found, _seal(info, str(meta.get("digest")), key)):
            return lineage
        raise InputError(where, "a lineage, rows or classes that differ from what this project sealed", "the files as written", repair)
    if not lineage.fitted:
        raise InputError(where, "a seal and no lineage", "the lineage that was sealed", repair)
    return replace(lineage, fitted=tuple(replace(f, origin="unknown") for f in lineage.fitted))
