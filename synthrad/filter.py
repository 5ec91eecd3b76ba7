"""`synthrad filter`: keep the images of a synthetic set that pass, and say who was rejected and why.

The config names one filter of synthrad.fusion (class_path, init_args; filters nest). Beside the kept set stands
filter_log.json: kept and rejected numbers, reasons, the numbers of each class and attribute value, and how similar
the kept and the rejected images are to training images.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import json
import os
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from synthrad.errors import InputError
from synthrad.records import Manifest, file_digest, write_durably

if TYPE_CHECKING:
    from synthrad.fusion.filters import Filter

LOG = "filter_log.json"


def load_filter(config: Path | str | Mapping[str, Any]) -> Filter:
    """The filter that a YAML file, or the same as a mapping, names.

    Args:
        config: {class_path: synthrad.fusion.MaskQuality, init_args: {min_dice: 0.7}}; arguments may be filters themselves.

    Raises:
        InputError: names the key, and the class or argument that may have been meant.
    """
    if isinstance(config, Mapping):
        return _build(config, "filter")
    path = Path(config)
    if not path.is_file():
        raise InputError(str(path), "no such file", "a filter config", "see configs/filters/")
    return _build(read_yaml(path, "class_path and init_args"), str(path))


class _OneOfEachKey(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, of which YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A mapping whose keys differ."""
        seen: dict[Hashable, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":  # <<: *shared
                continue
            line, name = key.start_mark.line + 1, self.construct_object(key, deep=True)
            if not isinstance(name, Hashable):
                continue  # the base class says so
            if name in seen:
                raise InputError(f"{self.name}, line {line}", f"the key {name!r} again, first on line {seen[name]}",
                                 "each key once", "remove one of the two")
            seen[name] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, expected: str) -> Any:
    """The data of a YAML file.

    Raises:
        InputError: no YAML, or a key given twice in one mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return yaml.load(file, Loader=_OneOfEachKey)  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise InputError(str(path), f"no YAML ({' '.join(str(e).split())[:120]})", expected) from e


def _build(spec: Any, where: str) -> Any:
    """An object from its class_path and init_args."""
    if not isinstance(spec, Mapping) or not isinstance(spec.get("class_path"), str):
        raise InputError(where, repr(spec), "class_path: synthrad.fusion.MaskQuality, and init_args")
    for key in spec:
        if key not in ("class_path", "init_args"):
            raise InputError(
                f"{where}: {key}",
                "an unknown key",
                "class_path or init_args",
                _near(str(key), ["class_path", "init_args"]),
            )
    kind = _class(spec["class_path"], f"{where}: class_path")
    given = spec.get("init_args") or {}
    known = list(inspect.signature(kind).parameters)
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: init_args", repr(given), f"a mapping of {', '.join(known)}")
    for key in given:
        if key not in known:
            raise InputError(
                f"{where}: init_args.{key}",
                "an unknown key",
                f"one of {', '.join(known) or '(none)'}",
                _near(str(key), known),
            )
    try:
        return kind(**{k: _value(k, v, f"{where}: init_args.{k}") for k, v in given.items()})
    except TypeError as e:
        raise InputError(f"{where}: init_args", str(e), f"values of {', '.join(known)}") from e


def _value(key: str, value: Any, where: str) -> Any:
    """Nested filters and cells; anything else as it is."""
    if isinstance(value, list):
        return [_value(key, v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, Mapping) and "class_path" in value:
        return _build(value, where)
    if key == "cells" and isinstance(value, Mapping):
        return _build({"class_path": "synthrad.fusion.Cells", "init_args": value}, where)
    return value


def _class(class_path: str, where: str) -> type:
    """A filter class of ours, or one of a package that the user (never the config) allowed."""
    from synthrad import fusion

    ours = {n: c for n in fusion.__all__ if inspect.isclass(c := getattr(fusion, n))}
    ours = {
        n: c
        for n, c in ours.items()
        if n == "Cells" or (issubclass(c, fusion.Filter) and c is not fusion.Filter)
    }
    package, _, name = class_path.rpartition(".")
    if (
        package in ("", "synthrad.fusion", "synthrad.fusion.filters", "synthrad.fusion.cells")
        and name in ours
    ):
        return ours[name]
    allowed = [p.strip() for p in os.environ.get("SYNTHRAD_ALLOW_IMPORT", "").split(",") if p.strip()]
    if package and package.split(".")[0] in allowed:
        try:
            return getattr(importlib.import_module(package), name)
        except (ImportError, AttributeError) as e:
            raise InputError(where, f"{class_path!r}: {e}", "a class that can be imported") from e
    filters = sorted(set(ours) - {"Cells"})
    raise InputError(
        where,
        repr(class_path),
        f"one of {', '.join(f'synthrad.fusion.{n}' for n in filters)}",
        _near(name, filters) or "a class of your own needs `synthrad --allow-import PACKAGE filter ...`",
    )


def _near(word: str, known: list[str]) -> str:
    lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(word.lower(), list(lower), n=2, cutoff=0.5)
    return f"did you mean {' or '.join(lower[c] for c in close)}?" if close else ""


def apply_filter(chosen: Filter, scored: Manifest) -> tuple[Manifest, dict[str, Any]]:
    """The rows that pass, and the log: filter, kept, rejected, why, per_class, per_subgroup, similarity, log.

    Raises:
        InputError: nothing passes, or a score is missing.
    """
    kept = chosen.keep(scored)
    return kept, {**chosen.report, "log": list(chosen.log)}


def _compare(scored: Manifest, real: Manifest) -> Manifest:
    """Similarity to the real training images for a set that was not scored: the log then reports it."""
    from synthrad.data.cache import ImageCache
    from synthrad.data.images import image_size
    from synthrad.score import nearest_training

    train = real.where(split="train", source="real")
    if not len(train):
        raise InputError(
            "--real", "no real images in its train split", "a prepared manifest with a train split"
        )
    if scored.info.channels != train.info.channels:
        raise InputError(
            "--real", f"channels {train.info.channels}", f"{scored.info.channels}, as in SYNTHETIC"
        )
    size = image_size(scored[0].channels[0])
    found = nearest_training(ImageCache(scored, size), ImageCache(train, size))
    return scored.with_columns(
        {
            "score:max_correlation": found.correlation.astype(float),
            "origin:nearest": train.column("digest")[found.index],
        }
    )


def filter_set(
    scored: Manifest, out: Path | str, config: Path | str, real: Manifest | None = None
) -> Manifest:
    """Write what passes to `out` (images and masks are referenced, not copied) and the log beside it.

    Args:
        scored: a set with the scores that the filter reads.
        out: folder of the result.
        config: filter config.
        real: adds the similarity to its training images where the set has none.
    """
    out = Path(out)
    if Path(scored.info.roots["here"]).resolve() == out.resolve():
        raise InputError("OUT", str(out), "another folder than SYNTHETIC", "choose a new folder")
    if (out / "dataset.yaml").is_file() and not (out / LOG).is_file():
        raise InputError(
            "OUT", f"{out}, a manifest that `filter` did not write", "a new folder", "choose another OUT"
        )
    if real is not None and len(scored) and "max_correlation" not in scored.names("score"):
        scored = _compare(scored, real)
    kept, log = apply_filter(load_filter(config), scored)
    log = {"config": yaml.safe_load(Path(config).read_text()), "config_digest": file_digest(config), **log}
    settings = {**scored.info.lineage.settings, "filter": log["config"]}
    kept = Manifest(kept.table, replace(kept.info, lineage=replace(kept.info.lineage, settings=settings)))
    (out / "dataset.yaml").unlink(missing_ok=True)  # until all is written the set is not whole
    write_durably(out / LOG, json.dumps(log, indent=1).encode())
    kept.write(out)
    _print(log)
    return Manifest.read(out)


def _print(log: dict[str, Any]) -> None:
    """Kept and rejected, why, and for whom."""
    print(f"{log['filter']}: kept {log['kept']}, rejected {log['rejected']}")
    for reason, number in log["why"].items():
        print(f"  {number} {reason}")
    groups = {**log["per_class"], **log["per_subgroup"]}
    if groups:
        print(f"{'':<32}{'kept':>8}{'rejected':>10}{'kept %':>8}")
    for name, n in groups.items():
        total = n["kept"] + n["rejected"]
        share = f"{n['kept'] / total:>8.0%}" if total else f"{'-':>8}"
        print(f"{name:<32}{n['kept']:>8}{n['rejected']:>10}{share}")
    if similarity := log.get("similarity"):
        shown = {k: "-" if v is None else f"{v:.3f}" for k, v in similarity.items()}
        print(
            f"median highest correlation with a training image: kept {shown['kept']}, rejected {shown['rejected']}"
        )


def parser() -> argparse.ArgumentParser:
    """Flags of `synthrad filter`."""
    p = argparse.ArgumentParser(
        prog="synthrad filter",
        description=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("synthetic", metavar="SYNTHETIC", help="manifest folder that `synthrad score` wrote")
    p.add_argument(
        "out", metavar="OUT", help="folder of the result; images and masks are referenced, not copied"
    )
    p.add_argument("--config", required=True, help="filter config, such as configs/filters/mask_quality.yaml")
    p.add_argument(
        "--real", help="real dataset: reports similarity to its training images for a set not scored yet"
    )
    return p


def run(argv: list[str]) -> int:
    """Run `synthrad filter`."""
    args = parser().parse_args(argv)
    load_filter(args.config)  # a bad config is told before any image is read
    real = Manifest.read(args.real) if args.real else None
    filter_set(Manifest.read(args.synthetic), args.out, args.config, real)
    return 0
