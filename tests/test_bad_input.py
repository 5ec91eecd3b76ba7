"""Bad input through the command line: one clear message with file or key, found, expected, repair; no traceback."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from disks import full_disk
from PIL import Image

import synthrad.sample
from synthrad.__main__ import main
from synthrad.lineage import Lineage
from synthrad.records import Manifest

REPOSITORY = Path(__file__).parents[1]
N = 24


class Dataset:
    """A table of small pictures on disk, and the command that prepares it."""

    def __init__(self, folder: Path):
        self.folder, self.out = folder, folder / "out"
        rng = np.random.default_rng(0)
        rows = []
        for i in range(N):
            image = np.kron(rng.integers(0, 255, (8, 8)), np.ones((4, 4))).astype(np.uint8)
            mask = np.zeros((32, 32), np.uint8)
            mask[4:12, 4 : 8 + i % 8] = 255
            Image.fromarray(image).save(folder / f"{i}.png")
            Image.fromarray(mask).save(folder / f"m{i}.png")
            split = ("train", "train", "val", "test")[i // 2 % 4]
            rows.append(
                {
                    "image": f"{i}.png",
                    "mask": f"m{i}.png",
                    "patient": f"p{i // 2}",
                    "caries": str(i % 2),
                    "split": split,
                    "sex": "FM"[i % 2],
                }
            )
        self.table = pd.DataFrame(rows)

    def prepare(self, *more: str) -> int:
        self.table.to_csv(self.folder / "t.csv", index=False)
        return main(
            [
                "prepare",
                "table",
                str(self.folder / "t.csv"),
                str(self.out),
                "--subject",
                "patient",
                "--mask",
                "mask",
                "--mask-classes",
                "abnormality:255=caries",
                "--labels",
                "caries",
                "--split",
                "split",
                "--attributes",
                "sex",
                *more,
            ]
        )

    def synthetic(self, where: str = "drawn") -> Path:
        """The training pictures again, as an imported synthetic set."""
        out = self.folder / where
        table = self.table[self.table["split"] == "train"].drop(columns="split")
        table.iloc[::3].to_csv(self.folder / "s.csv", index=False)
        argv = [
            "prepare",
            "table",
            str(self.folder / "s.csv"),
            str(out),
            "--mask",
            "mask",
            "--mask-classes",
            "abnormality:255=caries",
            "--labels",
            "caries",
            "--attributes",
            "sex",
            "--synthetic",
            "--trained-on",
            str(self.out),
        ]
        assert main(argv) == 0
        return out


@pytest.fixture
def data(tmp_path) -> Dataset:
    return Dataset(tmp_path)


def told(capsys, *words: str) -> str:
    """The message on stderr: short, with each word, and without a traceback."""
    err = capsys.readouterr().err
    for word in words:
        assert word in err, f"{word!r} is not in: {err}"
    assert "Traceback" not in err and len([line for line in err.splitlines() if line.strip()]) < 40
    return err


def test_the_dataset_itself_is_good(data):
    assert data.prepare() == 0
    assert len(Manifest.read(data.out)) == N


def missing(data):
    (data.folder / "5.png").unlink()


def unreadable(data):
    (data.folder / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")


def truncated(data):
    whole = (data.folder / "5.png").read_bytes()
    (data.folder / "5.png").write_bytes(whole[: len(whole) // 2])


def other_size(data):
    Image.fromarray(np.zeros((16, 32), np.uint8)).save(data.folder / "m5.png")


def undeclared(data):
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(data.folder / "m5.png")


def label(data):
    data.table.loc[5, "caries"] = "maybe"


def two_splits(data):
    data.table.loc[5, "split"] = "test" if data.table.loc[4, "split"] != "test" else "val"


def unknown_split(data):
    data.table.loc[5, "split"] = "holdout"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (missing, ["5.png"]),
        (unreadable, ["5.png"]),
        (truncated, ["5.png"]),
        (other_size, ["m5.png", "32"]),
        (undeclared, ["m5.png", "7", "abnormality", "Repair"]),
        (label, ["caries", "maybe", "0", "1", "blank"]),
        (two_splits, ["p2", "split"]),
        (unknown_split, ["holdout", "train", "val", "test"]),
    ],
    ids=lambda v: v.__name__ if callable(v) else "",
)
def test_a_spoilt_dataset_is_told_and_leaves_no_manifest(data, capsys, spoil, words):
    spoil(data)
    assert data.prepare() == 2
    told(capsys, *words)
    assert not (data.out / "dataset.yaml").exists()


def test_every_fault_is_told_at_once(data, capsys):
    missing(data)
    data.table.loc[9, "caries"] = "2"
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(data.folder / "m11.png")
    assert data.prepare() == 2
    told(capsys, "5.png", "'2'", "m11.png")


def test_edited_manifests_are_refused(data, tmp_path, capsys):
    assert data.prepare() == 0
    drawn = data.synthetic()
    text = (data.out / "manifest.csv").read_text()
    (data.out / "manifest.csv").write_text(text.replace("train", "test"))
    assert main(["score", str(drawn), "--real", str(data.out), "--out", str(tmp_path / "s")]) == 2
    told(capsys, "manifest.csv", "digest", "Repair")
    (data.out / "dataset.yaml").unlink()
    assert main(["score", str(drawn), "--real", str(data.out), "--out", str(tmp_path / "s")]) == 2
    told(capsys, "unfinished")


def test_files_that_vanish_after_preparing(data, tmp_path, capsys):
    assert data.prepare() == 0
    drawn = data.synthetic()
    record = Manifest.read(drawn)[0]
    record.channels[0].unlink()
    assert (
        main(
            ["score", str(drawn), "--real", str(data.out), "--out", str(tmp_path / "s"), "--size", "32", "32"]
        )
        == 2
    )
    told(capsys, record.channels[0].name)
    assert not (tmp_path / "s" / "dataset.yaml").exists()


STUDY = {
    "name": "bad", "size": [32, 32], "cells": {"classes": ["caries"]},
    "sources": {"made": {"manifest": "drawn"}},
    "arms": {"real_only": {"strategy": "RealOnly"},
             "matched": {"strategy": "Matched", "args": {"ratio": 1.0}, "source": "made"}},
    "tasks": {"find": {"kind": "classification", "steps": 2, "nets": {"resnet18": {"class_path": "TimmNet"}}}},
    "seeds": 1, "endpoint": {"task": "find", "net": "resnet18", "metric": "auroc"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("cells.classes", ["carries"], ["classes", "carries", "caries"]),
        ("arms.matched.strategy", "Machted", ["arms.matched.strategy", "Machted", "did you mean Matched"]),
        ("arms.matched.args", {"ration": 2}, ["ration", "did you mean ratio"]),
        ("arms.matched.source", "mode", ["arms.matched.source", "mode", "made"]),
        ("seads", 3, ["seads", "did you mean seeds"]),
        ("tasks.find.steps", "many", ["tasks.find.steps", "many"]),
        ("endpoint.task", "fond", ["endpoint", "fond"]),
    ],
)
def test_a_bad_study_names_its_key(data, capsys, key, value, words):
    assert data.prepare() == 0
    study = yaml.safe_load(yaml.safe_dump({**STUDY, "manifest": str(data.out)}))
    *path, last = key.split(".")
    place = study
    for part in path:
        place = place[part]
    place[last] = value
    (data.folder / "study.yaml").write_text(yaml.safe_dump(study))
    argv = ["study", "run", str(data.folder / "study.yaml"), "--dry-run", "--runs", str(data.folder / "runs")]
    assert main(argv) == 2
    told(capsys, *words)


def test_an_empty_split_is_told(data, capsys):
    data.table.loc[data.table["split"] == "val", "split"] = "train"
    code = data.prepare()
    if code == 0:  # a manifest may lack a split; a study may not
        (data.folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, "manifest": str(data.out)}))
        code = main(["study", "run", str(data.folder / "study.yaml"), "--dry-run"])
    assert code == 2
    told(capsys, "val")


def fit(data: Dataset, *more: str) -> int:
    config = REPOSITORY / "configs" / "tasks" / "segmentation_unet.yaml"
    return main(["fit", "-c", str(config), "--data=FusionDataModule", f"--data.manifest={data.out}", "--data.size=[32, 32]",
                 "--data.batch_size=4", "--trainer.max_steps=1", "--trainer.accelerator=cpu",
                 f"--trainer.default_root_dir={data.folder / 'fit'}", *more])  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data.fusion=Machted"], ["fusion", "Machted", "Matched"]),
        (["--data.fusion=Matched", "--data.fusion.ration=2"], ["ration", "ratio"]),
        (["--trainer.max_stpes=3"], ["max_stpes", "max_steps"]),
        (["--data.fusion=Matched", "--data.fusion.ratio=50"], ["needs"]),
    ],
    ids=["strategy", "key", "trainer_key", "pool"],
)
def test_a_bad_fit_names_its_key(data, capsys, monkeypatch, flags, words):
    monkeypatch.setattr(
        logging, "raiseExceptions", False
    )  # Lightning's log handler holds the stream of an earlier test
    assert data.prepare() == 0
    drawn = data.synthetic() if words == ["needs"] else None
    code = fit(data, *([f"--data.synthetic={drawn}"] if drawn else []), *flags)
    assert code == 2
    told(capsys, *(words if words != ["needs"] else ["Matched"]))


def test_a_checkpoint_of_another_dataset_or_none_at_all(data, capsys, monkeypatch):
    assert data.prepare() == 0
    torn = data.folder / "last.ckpt"
    torn.write_bytes(b"PK\x03\x04 torn")
    argv = [
        "sample",
        "--checkpoint",
        str(torn),
        "--out",
        str(data.folder / "s"),
        "--manifest",
        str(data.out),
        "--number",
        "4",
    ]
    assert main(argv) == 2
    told(capsys, "last.ckpt")
    assert main([*argv[:2], str(data.folder / "none.ckpt"), *argv[3:]]) == 2
    told(capsys, "none.ckpt", "no such file")
    other = replace(Manifest.read(data.out).info, id="another")
    monkeypatch.setattr(
        synthrad.sample, "load_generator", lambda path: (None, other, Lineage(), {"size": [32, 32]})
    )
    assert main(argv) == 2
    told(capsys, "last.ckpt", "id", "another", "Repair")
    assert not (data.folder / "s" / "dataset.yaml").exists()


def score(data: Dataset, drawn: Path) -> int:
    return main(["score", str(drawn), "--real", str(data.out), "--out", str(data.folder / "s"), "--folds", "2",
                 "--steps", "2"])  # fmt: skip


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_while_preparing(data, capsys, monkeypatch, after):
    full_disk(monkeypatch, after)
    code = data.prepare()
    assert code == 1
    told(capsys, "No space left")
    assert not (data.out / "dataset.yaml").exists()
    monkeypatch.undo()
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(data.folder))
    assert data.prepare() == 0 and len(Manifest.read(data.out)) == N


def test_a_full_disk_or_ctrl_c_while_scoring_then_the_same_command(data, capsys, monkeypatch):
    assert data.prepare() == 0
    drawn = data.synthetic()
    with monkeypatch.context() as patch:
        full_disk(patch, 9)
        assert score(data, drawn) == 1
    told(capsys, "No space left")
    assert not (data.folder / "s" / "dataset.yaml").exists()
    with monkeypatch.context() as patch:
        patch.setattr("synthrad.metrics.regions.component_counts", interrupt)
        assert score(data, drawn) == 1
    told(capsys, "interrupted", "resumes")
    assert not (data.folder / "s" / "dataset.yaml").exists()
    assert score(data, drawn) == 0
    assert "score:dice" in Manifest.read(data.folder / "s").table


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def test_ctrl_c_while_preparing(data, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("synthrad.data.images._opened", interrupt)
        assert data.prepare() == 1
    told(capsys, "interrupted")
    assert not (data.out / "dataset.yaml").exists()
    assert data.prepare() == 0


def test_an_unknown_command(capsys):
    assert main(["scoer"]) == 2
    told(capsys, "scoer", "score")
