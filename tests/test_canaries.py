"""Planted identifiers in file names, text chunks, EXIF and tables: `prepare --pseudonymise` keeps none, nor does what is made of its set.

DICOM headers: tests/gates/test_gate_dicom.py.
"""

import base64
import contextlib
import csv
import gzip
import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from canaries import CANARIES, hits
from mutants import png_chunk
from PIL import Image, PngImagePlugin
from tiny_generator import fit_command, sample_command

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.lineage import is_pseudonym
from synthrad.records import Manifest


def planted(folder: Path, words=CANARIES) -> list[str]:
    """A table of 24 pictures with an identifier in every place that may hold one; the command that prepares it."""
    folder.mkdir(parents=True)
    word = iter(list(words) * 20)
    rows = []
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 32)).astype(np.uint8)
        pixels[4 : 12 + i % 4, 8:20] = 200
        mask = np.where(pixels == 200, 255, 0).astype(np.uint8)
        name, ending = f"{next(word)}_{i}", (".png", ".jpg")[i % 2]
        (folder / (subject := next(word))).mkdir(exist_ok=True)
        info, exif = PngImagePlugin.PngInfo(), Image.Exif()
        info.add_text("PatientName", next(word))
        info.add_text("Comment", next(word), zip=True)
        info.add_itxt("Title", next(word), zip=True)
        exif[0x010E], exif[0x9286] = next(word), next(word)
        options = {"pnginfo": info, "exif": exif} if ending == ".png" else {"exif": exif, "comment": next(word).encode(), "quality": 95}
        Image.fromarray(pixels).save(folder / subject / f"{name}{ending}", **options)
        Image.fromarray(mask).save(folder / subject / f"m_{name}.png", pnginfo=info)
        rows.append({"image": f"{subject}/{name}{ending}", "mask": f"{subject}/m_{name}.png", "patient": f"{subject}{i // 2}", "caries": i % 2, "implant": i // 2 % 2,
                     "doctor": next(word), "sex": "mf"[i % 2], "remark": next(word)})
    with open(folder / f"{words[0]}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return ["prepare", "table", str(folder / f"{words[0]}.csv"), "OUT", "--subject", "patient", "--mask", "mask", "--mask-classes", "spot:255=spot",
            "--labels", "caries", "implant", "--attributes", "sex", "--name", "study", "--skip-near-copies"]


def said(argv: list[str]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        assert main(argv) == 0, err.getvalue()
    return out.getvalue() + err.getvalue()


def prepared(folder: Path, source: Path) -> str:
    return said([str(folder) if a == "OUT" else a for a in planted(source)] + ["--pseudonymise"])


def packed_in(path: Path, word: str) -> None:
    """A checkpoint whose text holds a word."""
    torch.save({"weight": torch.zeros(3), "of": {"name": word}}, path)


def inside_png(text: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(buffer, "PNG")
    sound = buffer.getvalue()
    return sound[:33] + png_chunk(b"zTXt", b"k\0\0" + zlib.compress(text.encode())) + sound[33:]


WAYS = {
    "as it is": lambda w: f"a {w} b".encode(), "other case": lambda w: w.lower().encode(), "signs between": lambda w: " - ".join(w).encode(),
    "UTF-16": lambda w: w.encode("utf-16"), "hexadecimal": lambda w: w.encode().hex().encode(), "base64": lambda w: base64.b64encode(b"name=" + w.encode() + b";"),
    "base64, upper case": lambda w: base64.b64encode(b"x" + w.upper().encode()), "gzip": lambda w: gzip.compress(w.encode()), "zlib": lambda w: zlib.compress(w.encode()),
    "a packed text of a PNG": inside_png, "a PNG in an event file": lambda w: b"\x0a\x05 event" + inside_png(w) + b"tail",
    "a PNG in a page": lambda w: b"<img src='data:image/png;base64," + base64.b64encode(inside_png(w)) + b"'>",
    "gzip in a page": lambda w: b"data:x;base64," + base64.b64encode(gzip.compress(w.encode() * 9)),
    "plain hash": lambda w: hashlib.sha256(w.encode()).hexdigest().encode(), "plain MD5 of small letters": lambda w: hashlib.md5(w.lower().encode()).hexdigest().encode(),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_search_finds_a_word_however_it_is_written(tmp_path, way):
    word = CANARIES[3]
    (tmp_path / "clean").write_bytes(WAYS[way]("nobody"))
    (tmp_path / "file").write_bytes(WAYS[way](word))
    assert [h.split(": ")[0] for h in hits(tmp_path, values=[word])] == ["file"]


def test_the_search_looks_into_checkpoints_tables_and_names(tmp_path):
    packed_in(tmp_path / "a.ckpt", CANARIES[0])
    pd.DataFrame({"subject": [CANARIES[1]] * 3}).to_parquet(tmp_path / "b.parquet", compression="zstd")
    (tmp_path / base64.b64encode(f"/data/{CANARIES[2]}".encode()).decode()).write_text("Snakemake names files so")
    (tmp_path / "link").symlink_to(f"/data/{CANARIES[4]}")
    assert sorted(h.split(": ")[1] for h in hits(tmp_path)) == sorted([*CANARIES[:3], CANARIES[4]])


def test_without_it_the_set_says_what_the_table_says(tmp_path):
    said([str(tmp_path / "out") if a == "OUT" else a for a in planted(tmp_path / "source")] + ["--copy"])
    assert len({h.split(": ")[1] for h in hits(tmp_path / "out")}) > 20


def test_a_pseudonymised_set(tmp_path):
    log = prepared(tmp_path / "out", tmp_path / "source")
    assert hits(tmp_path / "out") == [] and not any(w in log for w in CANARIES)
    made = Manifest.read(tmp_path / "out")
    assert len(set(made.column("subject"))) == len(set(r["patient"] for r in csv.DictReader(open(tmp_path / "source" / f"{CANARIES[0]}.csv"))))
    assert all(map(is_pseudonym, made.column("subject")))
    sources = sorted((tmp_path / "source").rglob("*_[0-9]*.png")) + sorted((tmp_path / "source").rglob("*.jpg"))
    pixels = {np.asarray(Image.open(p)).tobytes() for p in sources if not p.name.startswith("m_")}
    assert {np.asarray(Image.open(r.channels[0])).tobytes() for r in made} == pixels  # the pictures are what they were
    for record in made:
        mask, inside = np.asarray(Image.open(record.masks[0])) == 1, np.asarray(Image.open(record.channels[0])).astype(int)
        assert inside[mask].mean() > 150 and 0 < mask.mean() < 0.2  # each its own


def test_a_name_has_to_be_given(tmp_path, capsys):
    argv = [str(tmp_path / "out") if a == "OUT" else a for a in planted(tmp_path / "source") if a not in ("--name", "study")]
    assert main([*argv, "--pseudonymise"]) == 2
    assert "--name" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_made_of_the_set(tmp_path):
    assert made_of(tmp_path) == []


def made_of(folder: Path) -> list[str]:
    """Identifiers in anything that preparing, fitting, sampling and scoring left or said."""
    work = folder / "work"
    log = prepared(work / "real", folder / "source")
    log += said(fit_command(work / "real", work / "fit", size=32))
    log += said(sample_command(newest_valid(work / "fit"), work / "real", work / "drawn"))
    log += said(["score", str(work / "drawn"), "--real", str(work / "real"), "--out", str(work / "scored"), "--folds", "2", "--steps", "2"])
    (work / "log.txt").write_text(log)
    assert list(work.rglob("events.out.*")) and list(work.rglob("*.ckpt")) and list(work.rglob("*.png"))
    return hits(work)
