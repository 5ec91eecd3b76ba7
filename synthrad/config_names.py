"""Class names in flags and configs: which packages they may come from, and our own classes by their bare names."""

from __future__ import annotations

import ast
import importlib
import os
import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_config_read_mode, set_loader, set_parsing_settings

from synthrad.class_paths import allowed_packages
from synthrad.documents import check_yaml

PACKAGE = Path(__file__).parent
ALLOWED = ("synthrad", "lightning", "torch", "torchmetrics", "monai", "timm", "segmentation_models_pytorch",
           "transformers", "peft")
KINDS = {  # config key -> folders whose classes it may name without a path
    "model": ("generators", "tasks"), "data": ("datamodules",), "net": ("nets",),
    "fusion": ("fusion/strategies.py", "fusion/balancing.py", "fusion/controls.py"),
    "like": ("fusion/strategies.py", "fusion/balancing.py"),
    "callbacks": ("callbacks",), "cells": ("fusion/cells.py",),
}  # fmt: skip


def known_classes(folders: tuple[str, ...]) -> dict[str, str]:
    """Public classes of our folders, name -> module, read from the syntax trees: nothing is imported."""
    found = {}
    for folder in folders:
        place = PACKAGE / folder
        for path in [place] if place.is_file() else sorted(place.glob("*.py")):
            for node in ast.parse(path.read_text()).body:
                abstract = isinstance(node, ast.ClassDef) and "ABC" in map(ast.unparse, node.bases)
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not abstract:
                    found[node.name] = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return found


def allow_imports() -> None:
    """Let class paths name known packages only: importing a module runs its code, and configs travel.

    The user's own packages come through SYNTHRAD_ALLOW_IMPORT or `--allow-import`, never through a config.
    """
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*ALLOWED, *allowed_packages()])
    set_loader("yaml", _plain_yaml, (yaml.YAMLError, ValueError))
    set_config_read_mode(fsspec_enabled=False)  # Lightning's CLI reads configs from anywhere on the net


_jsonargparse_yaml = get_loader("yaml")  # it reads 1e-3 as a number, which YAML 1.1 does not


def _plain_yaml(text: str) -> Any:
    """What jsonargparse reads of configs and flags, once `check_yaml` has passed it."""
    check_yaml(text)
    return _jsonargparse_yaml(text)


def import_named(argv: list[str]) -> None:
    """Import the modules of the bare class names in flags and config files, so that they are found by name."""
    texts = [" ".join(argv)]
    for before, this in zip(["", *argv], argv, strict=False):
        path = this.split("=", 1)[1] if this.startswith(("--config=", "-c=")) else this if before in ("-c", "--config") else ""
        if path and os.path.isfile(path):  # a config may be given in place, longer than a name can be
            texts.append(Path(path).read_text())
    classes = known_classes(("generators", "tasks", "datamodules", "nets", "callbacks"))
    words = set(re.findall(r"(?<![\w.])[A-Z]\w+", "\n".join(texts)))
    modules = {m for name, m in classes.items() if name in words}
    for module in sorted(modules | ({"synthrad.fusion"} if "usion" in "\n".join(texts) else set())):
        importlib.import_module(module)
