"""Croissant: a set described in JSON-LD (MLCommons, version 1.0), so that mlcroissant and dataset search read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthrad.dataset.plain_copy import TABLE, PlainCopy, write_plain
from synthrad.errors import InputError
from synthrad.files import file_digest, write_durably
from synthrad.records import Manifest

NAME = "croissant.json"
CONFORMS = "http://mlcommons.org/croissant/1.0"


def export(manifest: Manifest, out: Path | str) -> Path:
    """Write images, masks, records.csv and croissant.json; returns the last.

    Raises:
        InputError: mlcroissant is not installed.
    """
    try:
        import mlcroissant as mlc
    except ImportError as e:
        raise InputError("--to croissant", "no mlcroissant", "the extra `export`", "pip install 'synthrad[export]'") from e
    copy = write_plain(manifest, out)
    info = manifest.info
    context = mlc.Context(conforms_to=CONFORMS)
    table = mlc.FileObject(ctx=context, id=TABLE, name=TABLE, content_url=TABLE, encoding_formats=["text/csv"], sha256=file_digest(copy.folder / TABLE))
    fields = [_field(mlc, context, column, table.id) for column in copy.table.columns]
    described = mlc.Metadata(
        ctx=context, name=info.name, description=_said(manifest), license=[info.licence] if info.licence else None,
        version="1.0.0", url="https://example.org/replace-with-where-it-is-published", date_published=None,
        distribution=[table, *_files(mlc, context, copy)],
        record_sets=[mlc.RecordSet(ctx=context, id="records", name="records", fields=fields)],
    )
    if context.issues.errors:
        raise InputError("--to croissant", "; ".join(sorted(context.issues.errors)), "a description that mlcroissant accepts")
    path = copy.folder / NAME
    write_durably(path, json.dumps(described.to_json(), indent=2, default=str).encode())
    return path


def _field(mlc: Any, context: Any, column: str, table: str) -> Any:
    kind = mlc.DataType.INTEGER if column.startswith("label:") else mlc.DataType.TEXT
    return mlc.Field(ctx=context, id=f"records/{column}", name=column, data_types=[kind],
                     source=mlc.Source(ctx=context, file_object=table, extract=mlc.Extract(ctx=context, column=column)))


def _files(mlc: Any, context: Any, copy: PlainCopy) -> list[Any]:
    folders = [c.split(":", 1) for c in copy.table.columns if c.startswith(("image:", "mask:"))]
    return [mlc.FileSet(ctx=context, id=f"{kind}s-{name}", name=f"{kind}s-{name}", encoding_formats=["image/png"], includes=[f"{kind}s/{name}/*.png"])
            for kind, name in folders]


def _said(manifest: Manifest) -> str:
    info = manifest.info
    splits = manifest.table.groupby("split").size().to_dict()
    source = "synthetic images" if (manifest.column("source") == "synthetic").all() else "images"
    said = [f"{len(manifest)} {source} ({', '.join(f'{n} {s}' for s, n in splits.items())})."]
    said += [f"Labels: {', '.join(info.classes)}."] if info.classes else []
    said += [f"Mask layer {layer}: pixel k is structure k of {', '.join(s)}; 0 is background." for layer, s in info.layers.items()]
    if info.lineage.fitted:
        said.append(f"What their generator was trained on is {info.lineage.origin}.")
    return " ".join(said)
