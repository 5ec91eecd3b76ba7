"""Planted identifiers in file names, text chunks, EXIF and tables: `prepare --pseudonymise` keeps none, nor does what is made of its set.

DICOM headers: tests/gates/test_gate_dicom.py.
"""

import contextlib
import csv
import io
from pathlib import Path

import numpy as np
import pytest
from canaries import CANARIES, hits
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
