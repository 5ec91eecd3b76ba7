"""Gate: 30 identifiers planted where a table, DICOM files and their folders may hold them are in nothing that synthrad leaves or says:
sets, checkpoints, event files, logs, reports with and without pictures, audits, cards, exports, Snakemake's own records, the project folder.

Short form, and how a word is looked for: tests/test_canaries.py; headers of DICOM alone: tests/gates/test_gate_dicom.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_dicom
import yaml
from canaries import CANARIES, hits
from test_canaries import made_of, prepared, said

pytestmark = [pytest.mark.gate, pytest.mark.filterwarnings("ignore::UserWarning")]  # pydicom on what is planted
GENERATOR = {
    "model": {"class_path": "synthrad.generators.gan.StyleGAN2",
              "init_args": {"channel_base": 64, "channel_max": 8, "z_dim": 8, "w_dim": 8, "mapping_depth": 2, "max_images": 24}},
    "data": {"class_path": "synthrad.datamodules.generation.GenerationDataModule", "init_args": {"manifest": "real", "size": [32, 32], "batch_size": 4}},
    "trainer": {"accelerator": "cpu", "log_every_n_steps": 1, "callbacks": [
        {"class_path": "synthrad.callbacks.DurableCheckpoint", "init_args": {"every_steps": 3}},
        {"class_path": "synthrad.callbacks.image_grid.ImageGrid", "init_args": {"every_images": 12}}]},
}  # fmt: skip
TASKS = {
    "table": {"kind": "classification", "classes": ["caries"], "nets": {"tiny": {"class_path": "TimmNet", "init_args": {"name": "test_resnet"}}}},
    "siim": {"kind": "segmentation", "layers": ["pneumothorax"],
             "nets": {"tiny": {"class_path": "SmpNet", "init_args": {"arch": "Unet", "encoder": "resnet18"}}}},
}  # fmt: skip
ENDPOINTS = {"table": {"metric": "auroc", "classes": ["caries"]}, "siim": {"metric": "dice"}}


def test_identifiers(tmp_path, monkeypatch, tally):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path / "work" / "project"))
    tally("Identifiers in outputs", len(CANARIES), made_of(tmp_path))


def siim(root: Path) -> None:
    """Radiographs as SIIM-ACR lays them out, with an identifier in each field, name and row that a stranger may have filled."""
    words = iter(list(CANARIES) * 30)
    keywords = ("PatientName OtherPatientNames PatientAddress InstitutionName ReferringPhysicianName OperatorsName StudyDescription SeriesDescription AccessionNumber "
                "StationName PatientComments ImageComments StudyID ProtocolName ViewPosition PatientSex PatientAge BodyPartExamined").split()  # fmt: skip
    rows = ["ImageId, EncodedPixels"]
    for k in range(24):
        made = tiny_dicom.dataset(tiny_dicom.square(32, bits=8, seed=k))
        for name in keywords:
            setattr(made, name, next(words)[:16])
        made.PatientID = f"{CANARIES[k // 2]}-{k // 2}"
        block = made.private_block(0x0011, next(words), create=True)
        for j in range(4):
            block.add_new(j, "LO", next(words))
        name, folder = f"{next(words)}.{k}", root / "dicom-images-train" / next(words) / next(words)
        folder.mkdir(parents=True, exist_ok=True)
        made.save_as(folder / f"{name}.dcm", enforce_file_format=True)
        rows.append(f"{name}, {'-1' if k % 3 == 2 else ' '.join(['264 8'] + ['24 8'] * 7)}")
    (root / "train-rle.csv").write_text("\n".join(rows) + "\n")


def source_of(kind: str, folder: Path, out: Path) -> tuple[str, list[str]]:
    """Plant a source and prepare it; what was said, and the values that must not stand there as a plain hash either."""
    if kind == "table":
        return prepared(out, folder), [f"{folder.name}/{w}{i // 2}" for w in CANARIES for i in range(24)] + [f"{w}{i // 2}" for w in CANARIES for i in range(24)]
    folder.mkdir()
    siim(folder)
    log = said(["prepare", "siim", str(folder), str(out), "--name", "set", "--skip-near-copies", "--attributes", "sex", "age", "view"])
    return log, [f"{CANARIES[k // 2]}-{k // 2}" for k in range(24)] + [p.stem for p in folder.rglob("*.dcm")] + [str(p.relative_to(folder)) for p in folder.rglob("*.dcm")]


def run(work: Path, *argv: str) -> str:
    """What a command of a user says, in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "synthrad", *argv], cwd=work, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ)
    assert done.returncode == 0, done.stdout
    return done.stdout


def studied(kind: str, work: Path) -> str:
    """A whole study on work/real, and what may be made of it; what was said."""
    (work / "generator.yaml").write_text(yaml.safe_dump(GENERATOR))
    task = {**TASKS[kind], "steps": 4, "batch_size": 4, "validations": 2}
    (work / "study.yaml").write_text(yaml.safe_dump({
        "name": "tiny", "mechanics": True, "manifest": "real", "size": [32, 32], "seeds": 1, "tasks": {"find": task},
        "cells": {"classes": ["caries"]} if kind == "table" else {"classes": ["pneumothorax"]},
        "sources": {"made": {"generator": "generator.yaml"}}, "endpoint": {"task": "find", "net": "tiny", **ENDPOINTS[kind]},
        "arms": {"real_only": {"strategy": "RealOnly"}, "matched": {"strategy": "Matched", "args": {"ratio": 1}, "source": "made"}},
    }))  # fmt: skip
    log = run(work, "study", "run", "study.yaml", "--cores", "1")
    log += run(work, "study", "report", "study.yaml", "--without-pictures") + run(work, "study", "status", "study.yaml")
    log += run(work, "prepare", "check", "real")
    log += run(work, "prepare", "export", "real", "coco", "--to", "coco") + run(work, "prepare", "export", "real", "croissant", "--to", "croissant")
    drawn = next(iter(sorted(p.parent for p in (work / "runs").glob("tiny/sources/made/**/dataset.yaml"))))
    log += run(work, "audit", str(drawn), "--real", "real", "--out", "runs/tiny/audits/made", "--trials", "20")
    return log + run(work, "card", str(drawn), "--audit", "runs/tiny/audits/made/audit.json", "--licence", "cc-by-4.0", "--out", "CARD.md")


@pytest.mark.timeout(3000)  # a busy machine
@pytest.mark.parametrize("kind", TASKS)
def test_studies(tmp_path, monkeypatch, tally, kind):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(work / "project"))
    monkeypatch.setenv("HOME", str(work))  # caches, too
    log, values = source_of(kind, tmp_path / "source", work / "real")
    assert len({h.split(": ")[1] for h in hits(tmp_path / "source")}) == len(CANARIES)
    (work / "said.txt").write_text(log + studied(kind, work))
    kinds = {"".join(p.suffixes[-1:]) for p in work.rglob("*") if p.is_file()}
    assert kinds >= {".png", ".ckpt", ".parquet", ".html", ".csv", ".yaml", ".json", ".jsonl", ".log", ".md"} and list(work.rglob("events.out.*")) and list(work.rglob(".snakemake/metadata/*"))
    tally("Identifiers in outputs of a study", len(CANARIES), hits(work, values=values))
