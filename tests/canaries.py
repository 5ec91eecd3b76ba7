"""Identifiers that no real patient has, planted where a dataset may hold them, and the search for them in everything that a command left."""

import io
import zipfile
import zlib
from pathlib import Path

import pandas as pd
from mutants import png_chunks

CANARIES = tuple(f"{word}{k:02d}ZQX" for k, word in enumerate(
    ["Mustermann", "Erika", "Doe", "John", "Rossi", "Mario", "Ivanov", "Petrov", "Suzuki", "Hanako", "Nguyen", "Kowalski", "Garcia", "Lucia", "Smith", "Mary", "Meier", "Klinik",
     "Station", "Strasse", "Telefon", "Versicherung", "Hausarzt", "Geburt", "Befund", "Auftrag", "Gerat", "Techniker", "Ort", "Kasse"]))  # fmt: skip


def texts_of(path: Path) -> list[bytes]:
    """All bytes of a file in which a name could stand, packed parts unpacked."""
    data = path.read_bytes()
    found = [str(path).encode(), data]
    if data.startswith(b"\x89PNG"):
        for kind, body in png_chunks(data):
            if kind in (b"zTXt", b"iTXt", b"iCCP"):
                for at in range(len(body)):
                    try:
                        found.append(zlib.decompress(body[at:]))
                        break
                    except zlib.error:
                        continue
    elif path.suffix == ".parquet":
        found.append(pd.read_parquet(path).to_csv().encode())
    elif zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found += [archive.read(i) for i in archive.infolist()]
    return found


def hits(folder: Path, words=CANARIES) -> list[str]:
    """`file: word` for each word that a file of the folder, or its name, holds, in any case, in UTF-8 or UTF-16."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        inside = b"\0\0".join(t.lower() for t in [str(path.relative_to(folder)).encode(), *texts_of(path)[1:]])
        found += [f"{path.relative_to(folder)}: {w}" for w in words if any(w.lower().encode(code) in inside for code in ("utf-8", "utf-16-le", "utf-16-be"))]
    return found
