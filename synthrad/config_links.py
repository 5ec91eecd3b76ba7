"""What the data of a config decide: counts of a model, and the digests that a fit is known by."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from synthrad.dataset_info import DatasetInfo
from synthrad.documents import read_yaml
from synthrad.errors import InputError


def facts_of(manifest: str) -> dict[str, Any]:
    """What a model may need to know of its data: channels, classes, layers; reads dataset.yaml alone."""
    path = Path(manifest) / "dataset.yaml"
    if not path.is_file():
        raise InputError(f"data.manifest {manifest}", "no dataset.yaml", "a manifest folder", "make one with `synthrad prepare`")
    info = DatasetInfo.from_dict(read_yaml(path, "the file as written") or {}, str(path))
    return {
        "id": info.id,
        "channels": list(info.channels),
        "num_channels": len(info.channels),
        "classes": list(info.classes),
        "layers": {k: list(v) for k, v in info.layers.items()},
    }


def digests_of(own: dict[str, Any]) -> dict[str, str]:
    """Digest of every manifest that a datamodule's arguments name (rows and info, without roots), by its folder."""
    external = own.get("external") or []
    folders = [own.get("manifest"), own.get("synthetic"), *(external.values() if hasattr(external, "values") else external)]
    out = {}
    for folder in filter(None, folders):
        path = Path(folder) / "dataset.yaml"
        info = read_yaml(path, "the file as written") or {} if path.is_file() else {}
        text = yaml.safe_dump({k: v for k, v in info.items() if k != "roots"})
        out[str(folder)] = hashlib.sha256(text.encode()).hexdigest()
    return out


def link(model: dict[str, Any], facts: dict[str, Any]) -> None:
    """Fill in what the data decides: a task's layers or classes where the config names none, its net's counts always."""
    own = model.get("init_args") or {}
    for name in ("layers", "classes"):
        if name in own and own[name] is None:
            own[name] = facts[name]
    net = (own.get("net") or {}).get("init_args") if own.get("net") is not None else None
    if net is None:
        return
    if "in_channels" in net:
        net["in_channels"] = facts["num_channels"]
    if "out_channels" in net and own.get("layers"):
        net["out_channels"] = sum(1 + len(s) for s in own["layers"].values())
    if "num_classes" in net and own.get("classes"):
        net["num_classes"] = len(own["classes"])
    if "classes" in net and own.get("classes"):
        net["classes"] = list(own["classes"])


def plain_tree(tree: Any) -> Any:
    """Mappings, lists and plain values only, so that YAML writes the same text every time."""
    if isinstance(tree, dict) or hasattr(tree, "items"):
        return {str(k): plain_tree(v) for k, v in sorted(tree.items())}
    if isinstance(tree, list | tuple):
        return [plain_tree(v) for v in tree]
    return tree if isinstance(tree, int | float | bool | str | None) else str(tree)
