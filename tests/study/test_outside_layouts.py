"""Exported arms: nnU-Net's documented rules for a dataset, the rows and pixels of our own fits, and what is refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from outside_lab import make_lab, pixels, rows_of, study, write_study
from tiny_set import make

from synthrad.data.phantom import write_phantoms
from synthrad.records import Manifest
from synthrad.study.outside_layouts import outside_arm, stored
from synthrad.study.planning import make_plan
from synthrad.study.study_file import load_study


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        patch.chdir(folder)
        make_lab(folder)
    return folder


@pytest.fixture(autouse=True)
def here(lab, monkeypatch):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(lab))
    monkeypatch.chdir(lab)


def check_nnunet(home, raw="nnUNet_raw"):
    """What verify_dataset_integrity and the documentation of nnU-Net v2 ask of a dataset; returns its cases and their split."""
    assert re.fullmatch(r"Dataset(?!0(?:0\d|10)_)\d{3}_\w+", home.name) and home.parent.name == raw
    said = json.loads((home / "dataset.json").read_text())
    assert {"labels", "channel_names", "numTraining", "file_ending"} <= set(said)
    assert list(said["channel_names"]) == [str(k) for k in range(len(said["channel_names"]))]
    numbers, ending = list(said["labels"].values()), said["file_ending"]
    assert said["labels"]["background"] == 0 and numbers == list(range(len(numbers))) and "regions_class_order" not in said
    # a case is what a file's name is without channel and ending (get_identifiers_from_splitted_dataset_folder)
    names = {folder: sorted(p.name for p in (home / folder).iterdir()) for folder in ("imagesTr", "labelsTr", "imagesTs")}
    cases = {folder: sorted({n[: -len(ending) - 5] for n in names[folder]}) for folder in ("imagesTr", "imagesTs")}
    for folder, found in cases.items():
        assert names[folder] == sorted(f"{c}_{k:04d}{ending}" for c in found for k in range(len(said["channel_names"])))
    assert names["labelsTr"] == [f"{c}{ending}" for c in cases["imagesTr"]] and len(cases["imagesTr"]) == said["numTraining"]
    assert not set(cases["imagesTr"]) & set(cases["imagesTs"]) and {p.name for p in home.iterdir()} == {"dataset.json", *names}
    for case in cases["imagesTr"]:
        label = pixels(home / "labelsTr" / f"{case}{ending}")
        images = [pixels(home / "imagesTr" / f"{case}_{k:04d}{ending}") for k in range(len(said["channel_names"]))]
        assert {x.shape for x in (label, *images)} == {label.shape} and label.ndim == 2, "one grey picture a channel, of the label's shape"
        assert set(np.unique(label)) <= set(numbers)
    (split,) = json.loads((home.parents[1] / "nnUNet_preprocessed" / home.name / "splits_final.json").read_text())
    assert set(split) == {"train", "val"} and sorted(split["train"] + split["val"]) == cases["imagesTr"] and split["train"] and split["val"]
    return cases, split


ARMS = ("real_only", "matched", "matched_duplicate", "matched_augmented")


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_keeps_the_rules_of_nnunet_and_the_rows_of_our_fit(lab, tmp_path, capsys, arm):
    out = tmp_path / "out"
    assert study("export", "tiny.yaml", "--arm", arm, "--to", "nnunet", "--out", out, "--seed", "1") == 0
    said = capsys.readouterr().out
    cases, split = check_nnunet(out / f"nnUNet_raw/Dataset501_tiny_{arm}_tooth_seed1")
    table = {row["case"]: row for row in rows_of(out / "cases.csv")}
    real = Manifest.read("real")

    plan = make_plan(load_study("tiny.yaml"), real.where(split="train", source="real"))
    rows = outside_arm(load_study("tiny.yaml"), real, plan, "draw", arm, 1)
    pool = json.loads((lab / "runs/tiny/sources/made/pool.json").read_text())["manifests"][0]
    data = replace(rows, pool=None if arm == "real_only" else str(lab / "runs/tiny" / pool)).data()
    data.setup("fit")
    fused = data.train
    train = [r for r in table.values() if r["split"] == "train"]
    assert sorted((r["image"], r["subject"]) for r in train) == sorted(zip(fused.column("digest"), fused.column("subject"), strict=True))
    masks = dict(zip(fused.column("digest"), fused.column("mask:tooth"), strict=True))
    assert split["train"] == [r["case"] for r in train if masks[r["image"]]], "a row without a mask is in no dataset"
    assert f"{len(cases['imagesTr'])}" == str(sum(map(len, split.values()))) and "without a known mask left out" in said and "fold 0" in said

    assert {table[c]["source"] for c in (*split["val"], *cases["imagesTs"])} == {"real"}
    assert ("synthetic" in {r["source"] for r in train}) == (arm == "matched")
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not {r["subject"] for r in table.values() if r["split"] == one} & {r["subject"] for r in table.values() if r["split"] == other}
    assert {table[c]["image"] for c in cases["imagesTs"]} == set(real.where(split="test").column("digest"))
    assert bool([r for r in train if r["copy_of"]]) == (arm == "matched_duplicate") == ("repeat another" in said)
    assert bool([r for r in train if r["augment"]]) == (arm == "matched_augmented") == ("augments once" in said)


def test_pixels_are_those_that_our_nets_see(lab, tmp_path):
    for arm in ("matched_duplicate", "matched_augmented"):
        assert study("export", "tiny.yaml", "--arm", arm, "--to", "nnunet", "--out", tmp_path / arm) == 0
    real = Manifest.read("real")
    files = {r.digest: r for r in real}
    for arm in ("matched_duplicate", "matched_augmented"):
        home = tmp_path / arm / f"nnUNet_raw/Dataset501_tiny_{arm}_tooth_seed0"
        table = rows_of(tmp_path / arm / "cases.csv")
        moved = [r for r in table if r["augment"]]
        for row in [r for r in table if not r["augment"]]:
            record, folder = files[row["image"]], "imagesTs" if row["split"] == "test" else "imagesTr"
            if (path := home / folder / f"{row['case']}_0000.png").exists():
                assert (pixels(path) == pixels(record.channels[0])).all()
            if (path := home / "labelsTr" / f"{row['case']}.png").exists():
                assert (pixels(path) == pixels(record.masks[0])).all()
        for row in moved:
            if (path := home / "imagesTr" / f"{row['case']}_0000.png").exists():
                assert (pixels(path) != pixels(files[row["image"]].channels[0])).mean() > 0.5
        copies = [r for r in table if r["copy_of"]]
        assert bool(moved) != bool(copies)
        for row in copies:
            images = [home / "imagesTr" / f"{c}_0000.png" for c in (row["case"], row["copy_of"])]
            assert not images[0].exists() or images[0].read_bytes() == images[1].read_bytes()


def test_greys_of_another_range_are_kept_by_sixteen_bits():
    x = np.linspace(-1, 1, 256, dtype=np.float32)
    assert (stored(x, deep=False) == np.arange(256)).all() and stored(x, deep=False).dtype == np.uint8
    assert stored(np.array([-1, 0.5, 1.0]), deep=True).tolist() == [0, 49151, 65535]


def test_a_windowed_set_is_written_deep(lab, tmp_path):
    real = make(tmp_path / "windowed", rows=24)
    Manifest(real.table, replace(real.info, intensity={"low": 80.0, "high": 200.0})).write(tmp_path / "windowed")
    path = write_study(tmp_path, "windowed_study", manifest=str(tmp_path / "windowed"), sources={}, arms={"real_only": {"strategy": "RealOnly"}})
    assert study("export", path, "--arm", "real_only", "--to", "folder", "--out", tmp_path / "out") == 0
    first = next(r for r in rows_of(tmp_path / "out/split.csv") if r["split"] == "train")
    image = next(r["image"] for r in rows_of(tmp_path / "out/cases.csv") if r["case"] == first["case"])
    shown = next(r for r in real if r.digest == image)
    greys, source = pixels(tmp_path / "out" / first["image:image"]).astype(float), pixels(shown.channels[0]).astype(float)
    assert np.abs(greys / 65535 - np.clip((source - 80) / 120, 0, 1)).max() < 1e-4
    assert json.loads((tmp_path / "out/export.json").read_text())["greys"] == 65535


def test_each_layer_is_a_dataset(lab, tmp_path, capsys):
    write_phantoms(tmp_path / "phantoms", 24, (32, 64), 0, fractions=(0.5, 0.2, 0.1, 0.2))
    tasks = {"both": {"kind": "segmentation", "steps": 2, "nets": {"unet": {"class_path": "SmpNet"}}, "size": [16, 32]}}
    path = write_study(tmp_path, "layers", manifest=str(tmp_path / "phantoms"), size=[32, 64], sources={}, arms={"real_only": {"strategy": "RealOnly"}}, cells={},
                       tasks=tasks, endpoint={"task": "both", "net": "unet", "metric": "dice"})
    assert study("export", path, "--arm", "real_only", "--to", "nnunet", "--out", tmp_path / "out", "--dataset-id", "30") == 0
    homes = sorted((tmp_path / "out/nnUNet_raw").iterdir())
    assert [h.name for h in homes] == ["Dataset030_layers_real_only_tooth_seed0", "Dataset031_layers_real_only_abnormality_seed0"]
    both = [check_nnunet(h) for h in homes]
    assert both[0] == both[1] and pixels(next((homes[1] / "labelsTr").iterdir())).shape == (16, 32)
    assert json.loads((homes[1] / "dataset.json").read_text())["labels"] == {"background": 0, "caries": 1, "deep_caries": 2, "periapical_lesion": 3, "impacted": 4}
    assert "Dataset031" in capsys.readouterr().out


def test_a_plain_folder_of_a_classification(lab, tmp_path, capsys):
    assert study("export", "tiny.yaml", "--arm", "matched", "--task", "find", "--to", "folder", "--out", tmp_path / "out") == 0
    table, real = rows_of(tmp_path / "out/split.csv"), Manifest.read("real")
    assert list(table[0]) == ["case", "split", "source", "copy_of", "image:image", "label:caries", "label:implant"] and not (tmp_path / "out/masks").exists()
    assert {r["split"] for r in table if r["source"] == "synthetic"} == {"train"}
    assert all(r["label:caries"] == r["label:implant"] == "" for r in table if r["split"] == "test")
    assert all((tmp_path / "out" / r["image:image"]).is_file() for r in table)
    val = real.where(split="val")
    images = {r["case"]: r["image"] for r in rows_of(tmp_path / "out/cases.csv")}
    known = {d: "" if np.isnan(v) else f"{v:g}" for d, v in zip(val.column("digest"), val.column("label:implant"), strict=True)}
    assert {images[r["case"]]: r["label:implant"] for r in table if r["split"] == "val"} == known and len(set(known.values())) > 1
    assert "these are images of patients" in capsys.readouterr().out


def test_a_plain_folder_of_masks_leaves_unknown_ones_blank(lab, tmp_path):
    assert study("export", "tiny.yaml", "--arm", "real_only", "--to", "folder", "--out", tmp_path / "out") == 0
    table = rows_of(tmp_path / "out/split.csv")
    train, images = Manifest.read("real").where(split="train"), {r["case"]: r["image"] for r in rows_of(tmp_path / "out/cases.csv")}
    known = dict(zip(train.column("digest"), train.column("mask:tooth") != "", strict=True))
    assert {images[r["case"]]: bool(r["mask:tooth"]) for r in table if r["split"] == "train"} == known and not all(known.values())
    assert not any(r["mask:tooth"] for r in table if r["split"] == "test")
    assert all((tmp_path / "out" / r["mask:tooth"]).is_file() for r in table if r["mask:tooth"])


def test_names_say_nothing_of_patients_and_tell_arms_and_seeds_apart(lab, tmp_path, monkeypatch):
    names = {}
    for key, (arm, seed) in {"first": ("real_only", 0), "again": ("real_only", 0), "seed": ("real_only", 1), "arm": ("matched", 0)}.items():
        assert study("export", "tiny.yaml", "--arm", arm, "--seed", seed, "--to", "folder", "--out", tmp_path / key) == 0
        names[key] = [r["case"] for r in rows_of(tmp_path / key / "cases.csv") if r["split"] == "test"]
    assert not any("_0000" in n.name.removesuffix("_0000.png") for key in names for n in (tmp_path / key).rglob("*.png"))
    assert names["first"] == names["again"] and not set(names["first"]) & {*names["seed"], *names["arm"]}
    rows = rows_of(tmp_path / "first/cases.csv")
    secrets = [r["image"][:10] for r in rows] + [r["subject"] for r in rows]
    handed_on = [p.name for p in (tmp_path / "first").rglob("*") if p.name != "cases.csv"] + [(tmp_path / "first/split.csv").read_text(), (tmp_path / "first/export.json").read_text()]
    assert not [s for s in secrets for text in handed_on if s in text]
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path))  # another key
    assert study("export", "tiny.yaml", "--arm", "real_only", "--to", "folder", "--out", tmp_path / "other") == 0
    assert not set(names["first"]) & {r["case"] for r in rows_of(tmp_path / "other/cases.csv")}


def test_the_order_of_cases_says_nothing_of_the_manifests(lab, tmp_path):
    real = make(tmp_path / "sorted", rows=60)
    Manifest(real.table.sort_values("label:caries", kind="stable", ignore_index=True), real.info).write(tmp_path / "sorted")
    path = write_study(tmp_path, "sorted_study", manifest=str(tmp_path / "sorted"), sources={}, arms={"real_only": {"strategy": "RealOnly"}})
    assert study("export", path, "--arm", "real_only", "--task", "find", "--to", "folder", "--out", tmp_path / "out") == 0
    labels = {r.digest: r.labels[0] for r in Manifest.read(tmp_path / "sorted")}
    table = rows_of(tmp_path / "out/cases.csv")
    for split in ("train", "test"):
        mine = [r for r in table if r["split"] == split]
        assert [r["case"] for r in mine] == sorted(r["case"] for r in mine)
        assert [int(r["case"].removeprefix(split).split("-")[0]) for r in mine] == list(range(1, len(mine) + 1))
        tags = [r["case"].split("-")[1] for r in mine]
        assert tags == sorted(tags), "a number is the rank of the keyed digits and tells no more than they do"
        assert [labels[r["image"]] for r in mine] != sorted((labels[r["image"]] for r in mine), key=lambda v: (v is None, v))


REFUSED = {
    "arm": (["--arm", "matchd", "--to", "folder"], "did you mean matched"),
    "no rows": (["--arm", "nothing", "--to", "folder"], "it equals real_only"),
    "task": (["--arm", "matched", "--task", "teeth", "--to", "folder"], "one of draw, find"),
    "empty task": (["--arm", "matched", "--task", "", "--to", "folder"], "one of draw, find"),
    "seed": (["--arm", "matched", "--to", "folder", "--seed", "2"], "0 to 1"),
    "kind": (["--arm", "matched", "--to", "nnunet", "--task", "find"], "--to folder"),
    "low id": (["--arm", "matched", "--to", "nnunet", "--dataset-id", "10"], "11 to 999"),
    "high id": (["--arm", "matched", "--to", "nnunet", "--dataset-id", "1000"], "11 to 999"),
    "no id": (["--arm", "matched", "--to", "folder", "--dataset-id", "600"], "leave it out"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_written(lab, tmp_path, capsys, case):
    argv, said = REFUSED[case]
    assert study("export", "tiny.yaml", *argv, "--out", tmp_path / "out") == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_full_folder_a_pool_that_is_not_made_and_reserved_names_are_refused(lab, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    assert study("export", "tiny.yaml", "--arm", "real_only", "--to", "folder", "--out", tmp_path / "full") == 2
    assert "a new or empty folder" in capsys.readouterr().err
    assert study("export", "tiny.yaml", "--arm", "matched", "--to", "folder", "--out", tmp_path / "out", "--runs", tmp_path / "runs") == 2
    assert "not made yet" in capsys.readouterr().err
    write_study(lab, "changed", name="tiny", cells={"classes": ["implant"]})
    assert study("export", "changed.yaml", "--arm", "matched", "--to", "folder", "--out", tmp_path / "out") == 2
    assert "of another configuration" in (said := capsys.readouterr().err) and "synthrad study run changed.yaml" in said
    real = make(tmp_path / "odd", rows=24)
    Manifest(real.table.rename(columns={"area:tooth/crown": "area:tooth/Ignore"}), replace(real.info, layers={"tooth": ("Ignore", "root")})).write(tmp_path / "odd")
    path = write_study(tmp_path, "odd_study", manifest=str(tmp_path / "odd"), sources={}, arms={"real_only": {"strategy": "RealOnly"}})
    assert study("export", path, "--arm", "real_only", "--to", "nnunet", "--out", tmp_path / "out") == 2
    assert "'Ignore'" in capsys.readouterr().err and not (tmp_path / "out").exists()
