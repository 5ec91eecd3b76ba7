"""Masks of a table of images: the flags that name their columns, layers and pixel values, and attributes of their structures' sizes."""

from __future__ import annotations

import argparse

from synthrad.data.pixel_values import Layer, lookup_table, parse_values
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError


def add_mask_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --mask, --mask-layers, --mask-classes and --size-bins."""
    parser.add_argument("--mask", nargs="+", default=[], metavar="COLUMN", help="columns of mask files; blank = no mask")
    parser.add_argument(
        "--mask-layers", nargs="+", metavar="NAME", help="layer of each mask column (default: as in --mask-classes)"
    )
    parser.add_argument(
        "--mask-classes",
        nargs="+",
        default=[],
        metavar="LAYER:VALUES",
        help="pixel values and names: abnormality:255=caries; organ:1=liver,2=spleen; tooth:1-255=tooth (many "
        "values, one structure); tooth:11-18,21-28 (each value named by its number). 0 is background",
    )
    parser.add_argument(
        "--size-bins",
        nargs="+",
        default=[],
        metavar="STRUCTURE:EDGES",
        help="add an attribute of the share of the picture that a structure covers, which generators are then "
        "conditioned on: abnormality/caries:0.003,0.006 gives the three bins below, between and above",
    )


def mask_layers(args: argparse.Namespace, like: DatasetInfo | None) -> list[Layer]:
    """The layer of each mask column, by the flags and, where they are silent, as in `like`.

    Raises:
        InputError: columns without the meaning of their values, a layer twice, or structures that `like` does not have.
    """
    given = dict(parse_values(spec) for spec in args.mask_classes)
    names = args.mask_layers or list(given or (like.layers if like else {}))
    if args.mask and not names:
        raise InputError(
            "--mask",
            f"{' '.join(args.mask)} without the meaning of its pixel values",
            "a layer with its values and names",
            "add --mask-classes LAYER:VALUE=NAME, e.g. --mask-classes abnormality:255=caries",
        )
    if len(given) != len(args.mask_classes) or len(set(names)) < len(names):
        raise InputError(
            "--mask-classes, --mask-layers",
            f"{' '.join(args.mask_layers or args.mask_classes)}: a layer twice",
            "each layer once",
            "join its values with a comma: LAYER:1=A,2=B",
        )
    if len(names) != len(args.mask):
        raise InputError(
            "--mask, --mask-classes",
            f"{len(args.mask)} column(s) for {len(names)} layer(s): {', '.join(names)}",
            "one column a layer",
            "repeat a column that holds two layers, or name the layers of the columns with --mask-layers",
        )
    layers = []
    for name, column in zip(names, args.mask, strict=True):
        known = tuple(like.layers.get(name, ())) if like else ()
        values = given.get(name) or {k + 1: s for k, s in enumerate(known)}
        structures = known or tuple(dict.fromkeys(values.values()))
        if not values or not set(values.values()) <= set(structures) or len(structures) > 254:
            raise InputError(
                "--mask-classes",
                f"{name}: {sorted(set(values.values()))}",
                f"names among {list(structures)[:40] or 'one or more'}, at most 254",
                f"add {name}:VALUE=NAME to --mask-classes",
            )
        layers.append(Layer(name, column, structures, lookup_table(values, structures)))
    if like and {n.name for n in layers} - set(like.layers):
        raise InputError("--mask-layers", str(names), f"layers of {args.like}: {list(like.layers)}")
    return layers


def size_edges(specs: list[str], info: DatasetInfo) -> dict[str, list[float]]:
    """--size-bins: the edges of each structure (layer/structure), shares of the picture.

    Raises:
        InputError: a structure that is not there, or edges that do not increase between 0 and 1.
    """
    known = [f"{layer}/{s}" for layer, structures in info.layers.items() for s in structures]
    sizes: dict[str, list[float]] = {}
    for spec in specs:
        name, _, text = spec.rpartition(":")
        try:
            edges = [float(e) for e in text.split(",")]
        except ValueError:
            edges = []
        if name not in known or not edges or sorted(set(edges)) != edges or not 0 < edges[0] <= edges[-1] < 1:
            raise InputError(
                "--size-bins",
                repr(spec),
                f"STRUCTURE:EDGES, a structure among {known[:40]} and increasing edges between 0 and 1",
                "e.g. abnormality/caries:0.003,0.006",
            )
        sizes[name] = edges
    return sizes
