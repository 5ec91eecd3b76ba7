"""Lossless JPEG of one grey component (ITU-T T.81 Annex H, process 14), which older archives use for radiographs, without a decoder in C.

Every decoder of it on PyPI is under the GPL or wraps a large library of C++ that strangers' files would reach. Here NumPy looks up what would begin
at each bit of the stream (length of code and difference); only the walk from one to the next is a Python loop, about a second for ten million pixels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

MOST_CODES = 17  # categories 0 to 16 of a difference (T.81 table H.2)
_SOF3, _DHT, _SOI, _EOI, _SOS, _DRI, _DNL = 0xC3, 0xC4, 0xD8, 0xD9, 0xDA, 0xDD, 0xDC
_INVALID = 255


class BrokenStream(ValueError):
    """A code stream that cannot be decoded; the text says why and quotes nothing of it."""


@dataclass(frozen=True)
class _Scan:
    """What the markers before the entropy-coded bytes state."""

    rows: int
    columns: int
    bits: int  # of a sample
    table: np.ndarray  # [65536, 2] uint8: the next 16 bits -> length of the code, category; (0, 255) where no code begins so
    predictor: int
    shift: int  # point transform
    restart: int  # rows between restart markers, 0 for none
    data: bytes


def decode(stream: bytes) -> np.ndarray:
    """The samples of a code stream.

    Args:
        stream: from SOI to EOI.

    Returns:
        [H, W] uint16, unsigned as stored.

    Raises:
        BrokenStream: another process, several components, or bytes that make no picture.
    """
    scan = _parsed(stream)
    parts = _segments(scan)
    high = scan.restart or scan.rows
    if len(parts) != -(-scan.rows // high):
        raise BrokenStream("restart markers that do not fit the picture")
    done = []
    for k, part in enumerate(parts):
        rows = min(high, scan.rows - k * high)
        done.append(_undone(_differences(part, rows * scan.columns, scan.table).reshape(rows, scan.columns), scan))
    return (np.concatenate(done) << scan.shift).astype(np.uint16)


def _parsed(stream: bytes) -> _Scan:
    tables: dict[int, np.ndarray] = {}
    frame, interval, at = None, 0, 2
    if stream[:2] != bytes([0xFF, _SOI]):
        raise BrokenStream("no start marker")
    while at + 4 <= len(stream):
        if stream[at] != 0xFF:
            raise BrokenStream("no marker where one has to be")
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if marker == 0xFF:  # filling
            at += 1
            continue
        body = stream[at + 4 : at + 2 + length]
        if len(body) != length - 2:
            raise BrokenStream("a marker that is cut off")
        if marker == _DHT:
            tables |= _tables(body)
        elif marker == _DRI and len(body) == 2:
            interval = int.from_bytes(body, "big")
        elif marker == _SOF3 and len(body) == 9 and body[5] == 1:
            frame = struct.unpack(">BHH", body[:5])
        elif marker == _SOS:
            return _scan(frame, interval, tables, body, stream[at + 2 + length :])
        elif 0xC0 <= marker <= 0xCF or marker in (_EOI, _DNL):
            raise BrokenStream("another process than 14, or several components")
        at += 2 + length
    raise BrokenStream("no scan")


def _scan(frame: tuple[int, int, int] | None, interval: int, tables: dict[int, np.ndarray], body: bytes, data: bytes) -> _Scan:
    if frame is None or len(body) != 6 or body[0] != 1:
        raise BrokenStream("a scan without a frame, or of several components")
    bits, rows, columns = frame
    table, predictor, shift = tables.get(body[2] >> 4), body[3], body[5] & 15
    if table is None or not 2 <= bits <= 16 or min(rows, columns) < 1 or not 1 <= predictor <= 7 or shift >= bits:
        raise BrokenStream("a scan whose table, precision, predictor or size is not one of process 14")
    if interval % columns:
        raise BrokenStream("restart intervals that are no whole rows")
    return _Scan(rows, columns, bits, table, predictor, shift, interval // columns, data)


def _tables(body: bytes) -> dict[int, np.ndarray]:
    """Number -> look-up of the next 16 bits, of each Huffman table in a marker (T.81 annex C)."""
    found, at = {}, 0
    while at + 17 <= len(body):
        counts = body[at + 1 : at + 17]
        values = body[at + 17 : at + 17 + sum(counts)]
        if len(values) != sum(counts) or not 1 <= len(values) <= MOST_CODES or max(values) >= MOST_CODES:
            raise BrokenStream("a Huffman table that is not one of differences")
        table = np.zeros((1 << 16, 2), np.uint8)
        table[:, 1] = _INVALID
        code, k = 0, 0
        for length, count in enumerate(counts, 1):
            for _ in range(count):
                if code + 1 > 1 << length:
                    raise BrokenStream("a Huffman table with more codes than bits allow")
                table[code << (16 - length) : (code + 1) << (16 - length)] = length, values[k]
                code, k = code + 1, k + 1
            code <<= 1
        found[body[at]] = table  # class 0 (of differences) in the upper four bits, the number in the lower
        at += 17 + len(values)
    return found


def _segments(scan: _Scan) -> list[bytes]:
    """Entropy-coded bytes between restart markers, up to the end marker, without the zeros that follow each 0xFF in them."""
    parts, begin, at, data = [], 0, 0, scan.data
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker == 0:
            at += 2
        elif marker == 0xFF:
            at += 1
        elif 0xD0 <= marker <= 0xD7 and scan.restart:
            parts.append(data[begin:at])
            begin = at = at + 2
        else:
            break
    parts.append(data[begin : at if at >= 0 else len(data)])
    return [p.replace(b"\xff\x00", b"\xff") for p in parts]


def _differences(data: bytes, number: int, table: np.ndarray) -> np.ndarray:
    """The first differences of some bytes, [number] int64; each takes at least a bit, so that a few bytes never claim many."""
    if number > 8 * len(data):
        raise BrokenStream("fewer bytes than the picture needs")
    held = np.frombuffer(data + bytes(8), np.uint8)
    words = held[:-3].astype(np.uint32) << 24 | held[1:-2].astype(np.uint32) << 16 | held[2:-1].astype(np.uint32) << 8 | held[3:]
    jumps = np.where(table[:, 1] < 16, table[:, 0] + table[:, 1], table[:, 0])
    jumps[table[:, 1] == _INVALID] = 0
    steps = np.empty((len(words), 8), np.uint8)
    for offset in range(8):
        steps[:, offset] = jumps[(words >> (16 - offset)) & 0xFFFF]
    at = _walk(steps.tobytes(), number)
    if at[-1] + steps.reshape(-1)[at[-1]] > 8 * len(data):
        raise BrokenStream("a code stream that ends early")
    length, category = table[(words[at >> 3] >> (16 - (at & 7)).astype(np.uint32)) & 0xFFFF].astype(np.int64).T
    if (category == _INVALID).any():
        raise BrokenStream("bits that are no code of the Huffman table")
    behind = at + length
    more = held[(behind[:, None] >> 3) + np.arange(3)].astype(np.int64) @ (1 << np.array([16, 8, 0]))  # 24 bits, of which up to 7 are another's
    extra = (more >> (24 - (behind & 7) - np.minimum(category, 15))) & ((1 << np.minimum(category, 15)) - 1)
    small = extra < (1 << category) >> 1  # T.81 F.2.2.1: the lower half stands for negative differences
    return np.where(category == 16, 32768, np.where(small, extra - (1 << category) + 1, extra))


def _walk(steps: bytes, number: int) -> np.ndarray:
    """Bit positions of the codes, each behind the one before, [number] int64."""
    found, at = np.empty(number, np.int64), 0
    try:
        for begin in range(0, number, 1 << 16):
            part = []
            for _ in range(min(1 << 16, number - begin)):
                part.append(at)
                at += steps[at]
            found[begin : begin + len(part)] = part
    except IndexError:
        raise BrokenStream("a code stream that ends early") from None
    return found


def _undone(differences: np.ndarray, scan: _Scan) -> np.ndarray:
    """Samples of rows from their differences (T.81 H.1.2, modulo 2 ** 16): the first row from the left, first samples of others from above."""
    made = differences.copy()
    made[0, 0] += 1 << (scan.bits - scan.shift - 1)
    made[0] = np.cumsum(made[0]) & 0xFFFF
    if scan.predictor == 1:
        made[:, 0] = np.cumsum(made[:, 0])
        made[1:] = np.cumsum(made[1:], axis=1)
        return made & 0xFFFF
    for y in range(1, len(made)):
        made[y] = _row(made[y], made[y - 1], scan.predictor)
    return made


def _row(differences: np.ndarray, above: np.ndarray, predictor: int) -> np.ndarray:
    """One row, from that above it."""
    row = differences.copy()
    row[0] += above[0]
    if predictor in (2, 3):
        row[1:] += above[1:] if predictor == 2 else above[:-1]
        return row & 0xFFFF
    if predictor in (4, 5):
        rise = above[1:] - above[:-1]
        row[1:] += rise if predictor == 4 else rise >> 1
        return np.cumsum(row) & 0xFFFF
    left, made, upper = int(row[0]) & 0xFFFF, [], above.tolist()
    made.append(left)
    for x, difference in enumerate(row[1:].tolist(), 1):
        guess = upper[x] + ((left - upper[x - 1]) >> 1) if predictor == 6 else (left + upper[x]) >> 1
        left = (guess + difference) & 0xFFFF
        made.append(left)
    return np.array(made, dtype=np.int64)
