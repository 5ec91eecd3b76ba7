"""How files and splits of replicates are made."""

import numpy as np
import pytest
import yaml
from replicated import STUDY, dataset
from tiny_set import make

from synthrad.__main__ import main
from synthrad.errors import InputError
from synthrad.records import Manifest
from synthrad.study import settling
from synthrad.study.replicating import resplit, write_replicates
from synthrad.study.study_file import load_study


def test_replicates_are_written_and_their_splits_differ(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    real = dataset(80, images=2)
    real.write("real")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(STUDY))
    assert main(["study", "replicate", "s.yaml", "--number", "3", "--out", "more"]) == 0
    printed = capsys.readouterr().out
    assert "synthrad study run more/s_r3.yaml" in printed and "study pool runs/s_r1 runs/s_r2 runs/s_r3 --out runs/s_pooled" in printed
    splits = []
    for k in (1, 2, 3):
        said = yaml.safe_load((tmp_path / f"more/s_r{k}.yaml").read_text())
        assert said["name"] == f"s_r{k}" and said["sources"]["gan"]["seed"] == k
        assert said["sources"]["gan"]["overrides"] == ["--model.max_images=10", f"--seed_everything={k}"]
        mine = Manifest.read(said["manifest"])
        assert mine.info.id == real.info.id and sorted(mine.column("digest")) == sorted(real.column("digest"))
        assert mine.table.groupby("subject")["split"].nunique().max() == 1
        counts = mine.table.groupby("split")["subject"].nunique()
        assert (counts - real.table.groupby("split")["subject"].nunique()).abs().max() <= 2
        splits.append(tuple(mine.column("split")))
    assert len(set(splits)) == 3 and tuple(real.column("split")) not in splits
    assert main(["study", "replicate", "s.yaml", "--number", "3", "--out", "more"]) == 0  # nothing changes


def test_replicates_compute_alike_whatever_machine_writes_or_runs_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset(40).write("real")
    tasks = {name: {**STUDY["tasks"]["t"], **more} for name, more in (("t", {}), ("asked", {"precision": "auto"}), ("full", {"precision": "32-true"}))}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**STUDY, "tasks": tasks}))
    wanted = {"t": "bf16-mixed", "asked": "bf16-mixed", "full": "32-true"}
    for device in ("bf16-mixed", "32-true"):  # the second time on another machine
        monkeypatch.setattr(settling, "_paying", lambda device=device: device)
        for path in write_replicates(tmp_path / "s.yaml", 2, tmp_path / "more", tmp_path / "data"):
            assert {name: task.precision for name, task in settling.settled(load_study(path)).tasks.items()} == wanted


def test_a_file_in_the_way_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset(40).write("real")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(STUDY))
    (tmp_path / "s_r1.yaml").write_text("mine")
    with pytest.raises(InputError, match="another file of that name"):
        write_replicates(tmp_path / "s.yaml", 2, tmp_path, tmp_path / "data")
    assert (tmp_path / "s_r1.yaml").read_text() == "mine"
    with pytest.raises(InputError, match="two or more replicates"):
        write_replicates(tmp_path / "s.yaml", 1, tmp_path, tmp_path / "data")


def test_labels_settled_for_training_are_unknown_again_in_held_out_rows(tmp_path):
    made = make(tmp_path / "real", rows=60)
    train = made.column("split") == "train"
    soft = np.where(train, 0.7, np.nan)
    label = np.where(train, 1.0, made.column("label:caries").astype(float))
    made = made.with_columns({"label:caries": label, "soft:caries": soft})
    again = resplit(made, 3)
    held, moved = again.column("split") != "train", (again.column("split") != "train") & train
    assert moved.any() and np.isnan(again.column("label:caries")[moved].astype(float)).all()
    assert np.isnan(again.column("soft:caries")[held].astype(float)).all()
    assert (again.column("soft:caries")[train & ~held] == 0.7).all() and (again.column("label:caries")[train & ~held] == 1).all()
    assert np.array_equal(again.column("label:caries")[held & ~train], made.column("label:caries")[held & ~train])
    Manifest.read(again.write(tmp_path / "again"))
