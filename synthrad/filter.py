"""`synthrad filter`: keep the images of a synthetic set that pass, and say who was rejected and why.

The config names one filter of synthrad.fusion (class_path, init_args; filters nest). Beside the kept set stands
filter_log.json: kept and rejected numbers, reasons, the numbers of each class and attribute value, and how similar
the kept and the rejected images are to training images.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthrad.class_paths import build
from synthrad.documents import read_yaml
from synthrad.errors import InputError, InputErrors
from synthrad.files import file_digest, write_durably
from synthrad.records import Manifest

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


def _build(spec: Any, where: str) -> Any:
    """A filter; its class may be named without its package."""
    if isinstance(spec, Mapping) and isinstance(named := spec.get("class_path"), str):
        package, _, name = named.rpartition(".")
        if package in ("", "synthrad.fusion.filters"):
            spec = {**spec, "class_path": f"synthrad.fusion.{name}"}
    return build(spec, where, _filters(), "filter", _value)


def _filters() -> dict[str, type]:
    """Ours, by their class_path."""
    from synthrad import fusion

    named = {n: getattr(fusion, n) for n in sorted(fusion.__all__)}
    return {f"synthrad.fusion.{n}": c for n, c in named.items() if inspect.isclass(c) and issubclass(c, fusion.Filter) and c is not fusion.Filter}


def _value(key: str, value: Any, where: str) -> Any:
    """Nested filters and cells; anything else as it is."""
    from synthrad.fusion import Cells

    if isinstance(value, list):
        return [_value(key, v, f"{where}[{i}]") for i, v in enumerate(value)]
    if key == "cells" and isinstance(value, Mapping):
        given = value if "class_path" in value else {"class_path": "synthrad.fusion.Cells", "init_args": value}
        return build(given, where, {"synthrad.fusion.Cells": Cells}, "filter")
    if isinstance(value, Mapping) and "class_path" in value:
        return _build(value, where)
    return value


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
    chosen = load_filter(config)
    try:
        kept, log = apply_filter(chosen, scored)
    except InputErrors:
        raise
    except InputError as e:
        raise InputError(f"{config}: {e.where}", e.found, e.expected, e.repair) from e
    log = {"config": read_yaml(Path(config), "a filter config"), "config_digest": file_digest(config), **log}
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
