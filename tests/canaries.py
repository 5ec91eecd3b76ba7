"""Identifiers that no real patient has, planted where a dataset may hold them, and the search for them in everything that a command left.

A word counts as found in any case, with other signs between its letters, in UTF-8 or UTF-16, as hexadecimal digits or in base64, and
inside of what is packed: zip (checkpoints, NumPy), gzip, zlib, parquet, base64 in pages, text chunks of PNGs wherever these lie.
"""

import base64
import binascii
import gzip
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pandas as pd
from mutants import png_chunks

CANARIES = tuple(f"{word}{k:02d}ZQX" for k, word in enumerate(
    ["Mustermann", "Erika", "Doe", "John", "Rossi", "Mario", "Ivanov", "Petrov", "Suzuki", "Hanako", "Nguyen", "Kowalski", "Garcia", "Lucia", "Smith", "Mary", "Meier", "Klinik",
     "Station", "Strasse", "Telefon", "Versicherung", "Hausarzt", "Geburt", "Befund", "Auftrag", "Gerat", "Techniker", "Ort", "Kasse"]))  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n"
DEEPEST, LARGEST = 6, 1 << 28  # of packed parts: how far inside, and bytes


def texts_of(data: bytes, deep: int = 0) -> Iterator[bytes]:
    """All bytes in which a name could stand: those given, and what is packed in them."""
    yield data
    if deep == DEEPEST:
        return
    for part in _unpacked(data):
        yield from texts_of(part, deep + 1)


def _unpacked(data: bytes) -> Iterator[bytes]:
    for at in _places(PNG, data):
        for kind, body in png_chunks(data[at:]):
            if kind in (b"zTXt", b"iTXt", b"iCCP"):
                yield from _inflated(body)
            if kind == b"IEND":
                break
    for at in _places(b"\x1f\x8b\x08", data):
        yield _gunzipped(data[at:])
    if data[:4] == b"PAR1":
        yield pd.read_parquet(io.BytesIO(data)).to_csv().encode()
    elif data[:2] == b"PK" and zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for inside in archive.infolist():
                yield inside.filename.encode()
                yield archive.read(inside)
    if data[:1] == b"\x78":
        yield from _inflated(data)
    for text in re.findall(rb"[A-Za-z0-9+/]{24,}={0,2}", data) if b";base64," in data else ():
        try:
            yield base64.b64decode(text + b"=" * (-len(text) % 4))
        except binascii.Error:
            continue


def _places(sign: bytes, data: bytes) -> list[int]:
    return [m.start() for m in re.finditer(re.escape(sign), data)]


def _inflated(body: bytes) -> Iterator[bytes]:
    """The first zlib stream in some bytes."""
    for at in _places(b"\x78", body):
        try:
            yield zlib.decompressobj().decompress(body[at:], LARGEST)
            return
        except zlib.error:
            continue


def _gunzipped(data: bytes) -> bytes:
    """What of a gzip stream can be read; what lies behind it does not matter."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return stream.read1(LARGEST)
    except (OSError, EOFError, zlib.error):
        return b""


@cache
def forms(word: str) -> tuple[bytes, ...]:
    """How a word looks in bytes that were made small."""
    found = []
    for text in {word, word.lower(), word.upper()}:
        raw = text.encode()
        found += [text.encode("utf-16-le"), text.encode("utf-16-be"), raw.hex().encode()]
        for shift in range(3):  # base64 of a text in which the word begins at any byte, less the letters that its neighbours change
            coded = base64.b64encode(b"\0" * shift + raw)
            found.append(coded[(0, 2, 3)[shift] : len(coded) - (0 if len(raw + b"\0" * shift) % 3 == 0 else 4)])
    return tuple({f.lower() for f in found})


def digests(value: str) -> tuple[bytes, ...]:
    """Hashes without a key, from which anybody who has a list of names would find the one that was hashed."""
    return tuple({f(text.encode()).hexdigest().encode() for text in (value, value.lower(), value.strip()) for f in (hashlib.md5, hashlib.sha1, hashlib.sha256)})


def words_in(data: bytes, words: Iterable[str] = CANARIES) -> list[str]:
    """The words that some bytes hold, in any form."""
    found = set()
    for text in texts_of(data):
        small = text.lower()
        bare = re.sub(rb"[^a-z0-9]+", b"", small)
        found |= {w for w in words if w not in found and (w.lower().encode() in bare or any(f in small for f in forms(w)))}
    return sorted(found)


def hits(folder: Path, words: Iterable[str] = CANARIES, values: Iterable[str] = ()) -> list[str]:
    """`file: word` for each word that a file of the folder, or its name, holds, and for each value whose plain hash it holds."""
    hashed = {d: v for v in values for d in digests(v)}
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() or p.is_symlink()):
        name = str(path.relative_to(folder))
        data = b"\0".join([name.encode(), str(path.readlink()).encode() if path.is_symlink() else b""]) + b"\0"
        held = path.read_bytes() if path.is_file() else b""
        inside = set(words_in(data, words)) | set(words_in(held, words))
        found += [f"{name}: {w}" for w in sorted(inside)]
        hexes = {*re.findall(rb"(?<![0-9a-f])(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?![0-9a-f])", held.lower())} if hashed else set()
        found += [f"{name}: plain hash of {hashed[h]}" for h in hexes & hashed.keys()]
    return found
