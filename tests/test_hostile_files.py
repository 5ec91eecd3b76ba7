"""Mutated and oversized files through the command line: read, or refused by file and reason; never a crash, 2 s or 512 MB.

The many are in tests/gates/test_gate_files.py.
"""

import contextlib
import csv
import io
import json
import random
import struct
import zlib

import numpy as np
import pytest
import yaml
from forks import forks
from mutants import in_place, judged, mutants, of_bytes, of_png, of_text, of_tree, png_chunk, told
from PIL import Image, PngImagePlugin
from test_bad_input import STUDY, Dataset
from tiny_set import make

from synthrad.data.cache import ImageCache
from synthrad.errors import InputError
from synthrad.records import Manifest

pytestmark = forks


def encoded(kind: str, size=(24, 32), seed=0, **options) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, size).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def texts() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 50, zip=True)
    info.add_itxt("Title", "x", zip=True)
    return info


def table(folder, image=None):
    """A table of four rows; `image` are the bytes of the third picture, named subject.FORMAT. Returns table, command."""
    folder.mkdir()
    rows = [["image", "mask", "patient", "caries", "age", "split"]]
    for i in range(4):
        name = "victim.img" if i == 2 and image else f"{i}.png"
        (folder / name).write_bytes(image if name == "victim.img" else encoded("PNG", seed=i + 1))
        (folder / f"m{i}.png").write_bytes(mask_bytes())
        rows.append([name, f"m{i}.png", f"p{i}", str(i % 2), str(40 + i), ("train", "val", "test")[i % 3]])
    with open(folder / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "t.csv", ["prepare", "table", str(folder / "t.csv"), str(folder / "out"), "--subject", "patient", "--mask", "mask", "--mask-classes",
                              "spot:255=spot", "--labels", "caries", "--attributes", "age", "--age-bands", "42", "--split", "split", "--intensity", "0", "65535", "--skip-near-copies"]


def mask_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.kron(np.eye(2), np.full((12, 16), 255)).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def picture(folder, sound):
    _, argv = table(folder, sound)
    at = argv.index("--mask")
    return folder / "victim.img", argv[:at] + argv[at + 4 :]


def dentex(folder):
    out, folder = folder / "out", folder / "in"
    (folder / "xrays").mkdir(parents=True)
    for i in range(6):
        (folder / "xrays" / f"{i}.png").write_bytes(encoded("PNG", seed=i))
    mark = {"id": 1, "image_id": 1, "category_id_1": 0, "category_id_2": 1, "category_id_3": 0, "bbox": [2, 2, 9, 9],
            "segmentation": [[2, 2, 11, 2, 11, 11, 2.5, 11]], "iscrowd": 0}
    data = {"images": [{"id": i, "file_name": f"{i}.png", "height": 24, "width": 32} for i in range(6)], "annotations": [mark, {**mark, "id": 2, "image_id": 2}],
            "categories_1": [{"id": i, "name": str(i + 1)} for i in range(4)], "categories_2": [{"id": i, "name": str(i + 1)} for i in range(8)],
            "categories_3": [{"id": 0, "name": "Caries"}]}
    (folder / "a.json").write_text(json.dumps(data))
    return folder / "a.json", ["prepare", "dentex", str(folder), str(out), "--annotations", str(folder / "a.json"), "--skip-near-copies"]


def filtering(folder):
    made = make(folder / "set", rows=12, source="synthetic")
    made.with_columns({"score:area_inside": np.linspace(0, 1, 12)}).write(folder / "set")
    (folder / "f.yaml").write_text(json.dumps({"class_path": "synthrad.fusion.RandomKeep", "init_args": {
        "like": {"class_path": "synthrad.fusion.AreaRange", "init_args": {"least": 0.5, "components": False}}, "seed": 0}}))
    return folder / "f.yaml", ["filter", str(folder / "set"), str(folder / "out"), "--config", str(folder / "f.yaml")]


def dataset_yaml(folder):
    _, argv = filtering(folder)
    path = folder / "set" / "dataset.yaml"
    path.write_text(json.dumps(yaml.safe_load(path.read_text())))
    return path, argv




def study(folder):
    folder.mkdir()
    data = Dataset(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        assert data.prepare() == 0
        data.synthetic()
    (folder / "s.yaml").write_text(json.dumps({**STUDY, "manifest": str(data.out), "sources": {"made": {"manifest": str(folder / "drawn")}}}))
    return folder / "s.yaml", ["study", "run", str(folder / "s.yaml"), "--dry-run", "--runs", str(folder / "runs")]


KINDS = {  # name: a sound file and the command that reads it, how it is mutated
    "PNG": (lambda f: picture(f, encoded("PNG", pnginfo=texts())), of_png),
    "JPEG": (lambda f: picture(f, encoded("JPEG")), of_bytes),
    "JPEG, progressive": (lambda f: picture(f, encoded("JPEG", progressive=True)), of_bytes),
    "CSV": (table, of_text),
    "JSON": (dentex, of_tree),
    "YAML, filter": (filtering, of_tree),
    "YAML, dataset": (dataset_yaml, of_tree),
    "YAML, study": (study, of_tree),
}


def tried(kind: str, folder, number: int) -> list[str]:
    """What went wrong with `number` mutants of a kind."""
    prepare, mutate = KINDS[kind]
    path, argv = prepare(folder)
    sound = path.read_bytes()
    assert told(argv, path.name) == "" and len(Manifest.read(folder / "out"))
    made = mutants(sound, mutate, number, kind)
    found = judged(made, in_place(path, argv))
    for k, wrong in enumerate(found):
        if wrong:
            path.with_name(f"lost-{k}{path.suffix}").write_bytes(made[k])
    return [f"{kind}, mutant {k}: {wrong}" for k, wrong in enumerate(found) if wrong]


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_mutants_of_each_kind(tmp_path, kind):
    assert tried(kind, tmp_path / "set", 12) == []


def stands_for(width: int, height: int, depth: int = 8, colour: int = 0, rows: int | None = None) -> bytes:
    """A PNG of so many black pixels, packed."""
    line = 1 + (width * depth * {0: 1, 2: 3, 6: 4}[colour] + 7) // 8
    packer, body = zlib.compressobj(9), b""
    for _ in range(height if rows is None else rows):
        body += packer.compress(bytes(line))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body + packer.flush()) + png_chunk(b"IEND", b"")


def scans() -> bytes:
    """A JPEG of few bytes and tens of thousands of passes over six million pixels."""
    data = encoded("JPEG", size=(8, 8), progressive=True)
    at = data.index(b"\xff\xc2") + 5
    data = data[:at] + struct.pack(">HH", 2500, 2500) + data[at + 4 :]
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * 20_000 + data[-2:]


BOMBS = {
    "169 Mpx": lambda: stands_for(13_000, 13_000), "2 Gpx in the header": lambda: stands_for(46_000, 46_000, rows=1),
    "60 Mpx of RGBA": lambda: stands_for(60_000, 1000, colour=6), "49 Mpx of RGBA": lambda: stands_for(49_000, 1000, colour=6),
    "49 Mpx of 16 bit": lambda: stands_for(49_000, 1000, depth=16), "a text of 100 MB": lambda: zipped_text(100),
    "a profile of 100 MB": lambda: zipped_text(100, b"iCCP"), "scans": scans,
}


def zipped_text(megabytes: int, kind: bytes = b"zTXt") -> bytes:
    sound = encoded("PNG")
    return sound[:33] + png_chunk(kind, b"k\0\0" + zlib.compress(bytes(megabytes * 2**20))) + sound[33:]


@pytest.mark.parametrize("bomb", BOMBS)
def test_pictures_that_swell(tmp_path, bomb):
    data = BOMBS[bomb]()
    assert len(data) < 700_000
    path, argv = picture(tmp_path / "set", encoded("PNG"))
    assert told(argv, path.name) == ""
    assert judged([data], in_place(path, argv)) == [""]


def test_wide_and_long_tables(tmp_path):
    path, argv = table(tmp_path / "set")
    head, *rest = path.read_text().splitlines()
    wide = ",".join(f"c{i}" for i in range(200_000))
    assert told(argv, path.name) == ""
    cases = [f"{head}\n{'x' * 50_000_000}", f'{head}\n"{"x" * 50_000_000}', f"{wide}\n{',' * 199_999}\n", f"{head},{wide}\n" + rest[0] + "," * 200_000,
             ",\n" * 1_000_000, "\n" * 5_000_000 + head]
    assert judged([case.encode() for case in cases], in_place(path, argv)) == [""] * len(cases)


def test_deep_and_repeating_documents(tmp_path):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    merged = "a: &a {x: 1}\n" + "".join(f"{b}: &{b}\n  <<: [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    for k, (made, deep) in enumerate([(filtering, ["[" * 100_000, "{a: " * 50_000, "- " * 100_000, bomb, merged, bomb.replace("[x", "{") * 2]),
                                      (dataset_yaml, ["[" * 100_000, bomb, merged]), (dentex, ["[" * 100_000, '{"a":' * 100_000, '{"images": ' + "[" * 900 + "]" * 900 + "}"])]):
        path, argv = made(tmp_path / str(k))
        assert told(argv, path.name) == ""
        assert judged([text.encode() for text in deep], in_place(path, argv)) == [""] * len(deep)


def changed(folder, kind: str, number: int) -> list[str]:
    """Pictures, or a mask, of a prepared set that a stranger changed afterwards, and that were taken all the same."""
    path, argv = table(folder) if kind == "mask" else picture(folder, encoded(kind))
    assert told(argv, path.name) == ""
    manifest, accepted = Manifest.read(folder / "out"), []
    at = 2 if kind == "mask" else [p.channels[0].name for p in manifest].index(path.name)
    path = manifest[at].masks[0] if kind == "mask" else path
    for k, data in enumerate(mutants(path.read_bytes(), of_bytes if kind == "JPEG" else of_png, number, f"{kind} changed")):
        path.write_bytes(data)
        try:
            ImageCache(manifest.take([at]), (24, 32), folder / "cache" / str(k))
            accepted.append(f"{kind}, mutant {k}")
        except InputError as e:
            assert path.name in str(e)
    return accepted


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "mask"])
def test_with_a_digest_no_change_is_accepted(tmp_path, kind):
    assert changed(tmp_path / "set", kind, 20) == []


def test_the_same_seed_makes_the_same_mutants():
    sound = encoded("PNG")
    a, b = (mutants(sound, of_png, 20, "x") for _ in range(2))
    assert a == b and len({*a, sound}) == 21 and mutants(sound, of_png, 20, "y") != a


def test_the_judge_notices():
    def take(case):
        if case == "dies":
            import os

            os.kill(os.getpid(), 11)
        if case == "waits":
            while True:
                random.random()
        if case == "swells":
            bytearray(2**30)
        if case == "fails":
            raise KeyError("x")
        return ""

    found = judged(["", "dies", "waits", "", "swells", "fails", ""], take)
    assert [bool(f) for f in found] == [False, True, True, False, True, True, False]
    assert "died" in found[1] and "2 s" in found[2] and "512 MB" in found[4] and "KeyError" in found[5]
