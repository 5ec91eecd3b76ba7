import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthrad.__main__ import main
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.filter import apply_filter, load_filter
from synthrad.fusion import AllOf, MaskQuality, RandomKeep
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest

CONFIGS = Path(__file__).parents[1] / "configs" / "filters"
N = 40


def scored_set(folder: Path, scores: bool = True, source: str = "synthetic") -> Manifest:
    """40 rows: dice rises from 0.2 to 0.98, similarity falls; caries on every fourth, alternating sex."""
    folder.mkdir(parents=True)
    info = DatasetInfo(
        name="s",
        id="s",
        classes=("caries",),
        layers={"tooth": ("tooth",)},
        attributes=("sex",),
        roots={"here": str(folder)},
    )
    columns = empty_columns(info, N)
    rng = np.random.default_rng(0)
    for i in range(N):
        Image.fromarray(rng.integers(0, 256, (8, 16)).astype(np.uint8)).save(folder / f"{i}.png")
        columns["channel:image"][i], columns["subject"][i] = f"{i}.png", f"p{i}"
        columns["label:caries"][i], columns["attribute:sex"][i] = float(i % 4 == 0), "FM"[i % 2]
        columns["digest"][i] = file_digest(folder / f"{i}.png")
    columns["source"][:], columns["split"][:] = source, "train"
    table = pd.DataFrame(columns)
    if scores:
        table["score:dice"] = np.linspace(0.2, 0.98, N)
        table["score:area_inside"] = table["score:components_inside"] = 1.0
        table["score:max_correlation"] = np.linspace(0.99, 0.5, N)
    return Manifest.read(Manifest(table, info).write(folder))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_config_builds_and_filters(path, tmp_path):
    kept, log = apply_filter(load_filter(path), scored_set(tmp_path / "set"))
    assert 0 < len(kept) < N and log["kept"] + log["rejected"] == N


def test_command_keeps_the_right_rows_and_writes_the_log(tmp_path, capsys):
    scored = scored_set(tmp_path / "set")
    argv = [
        "filter",
        str(tmp_path / "set"),
        str(tmp_path / "out"),
        "--config",
        str(CONFIGS / "mask_quality.yaml"),
    ]
    assert main(argv) == 0
    kept = Manifest.read(tmp_path / "out")
    want = np.flatnonzero(scored.column("score:dice") >= 0.7)
    assert kept.column("subject").tolist() == [f"p{i}" for i in want]
    assert all(r.channels[0].is_file() for r in kept) and not list((tmp_path / "out").glob("*.png"))
    log = json.loads((tmp_path / "out" / "filter_log.json").read_text())
    assert (
        log["why"] == {"Dice below 0.7": N - len(want)}
        and log["config"]["class_path"] == "synthrad.fusion.AllOf"
    )
    assert log["per_class"]["caries"]["kept"] == sum(1 for i in want if i % 4 == 0)
    assert log["per_subgroup"]["sex=F"]["rejected"] == sum(
        1 for i in range(N) if i not in want and i % 2 == 0
    )
    assert log["similarity"]["kept"] < log["similarity"]["rejected"]
    shown = capsys.readouterr().out
    assert "caries" in shown and "sex=F" in shown and "Dice below 0.7" in shown


def test_random_keep_takes_as_many_of_each_cell(tmp_path):
    scored = scored_set(tmp_path / "set")
    judged, _ = apply_filter(MaskQuality(0.7), scored)
    control, _ = apply_filter(load_filter(CONFIGS / "random_keep.yaml"), scored)
    assert len(control) == len(judged) and control.labels.sum() == judged.labels.sum()
    assert set(control.column("subject")) != set(judged.column("subject"))


def test_similarity_is_added_from_the_real_set(tmp_path):
    scored_set(tmp_path / "set", scores=False)
    scored_set(tmp_path / "real", source="real")
    (tmp_path / "f.yaml").write_text("class_path: synthrad.fusion.RandomKeep\ninit_args: {fraction: 0.5}\n")
    argv = ["filter", str(tmp_path / "set"), str(tmp_path / "out"), "--config", str(tmp_path / "f.yaml")]
    assert main([*argv, "--real", str(tmp_path / "real")]) == 0
    kept = Manifest.read(tmp_path / "out")
    assert kept.column("score:max_correlation") == pytest.approx(1, abs=1e-5)  # the same pictures
    assert kept.column("origin:nearest").tolist() == kept.column("digest").tolist()


def test_rejecting_everything_is_an_error_and_writes_nothing(tmp_path, capsys):
    scored_set(tmp_path / "set")
    (tmp_path / "f.yaml").write_text("class_path: MaskQuality\ninit_args: {min_dice: 1.0}\n")
    assert (
        main(["filter", str(tmp_path / "set"), str(tmp_path / "out"), "--config", str(tmp_path / "f.yaml")])
        == 2
    )
    assert "all 40 images rejected" in capsys.readouterr().err
    assert not (tmp_path / "out" / "dataset.yaml").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"class_path": "synthrad.fusion.MaskQualty"}, "did you mean MaskQuality"),
        ({"class_path": "os.system"}, "allow-import"),
        ({"class_path": "synthrad.fusion.Matched"}, "class_path"),
        (
            {"class_path": "MaskQuality", "init_args": {"min_dise": 0.5}},
            r"min_dise.*\n.*did you mean min_dice",
        ),
        ({"class_path": "MaskQuality", "init_arg": {}}, "init_arg"),
        ({"class_path": "MaskQuality", "init_args": {"min_dice": 1.5}}, "min_dice"),
        ({"class_path": "AllOf", "init_args": {"filters": [{"class_path": "Nothing"}]}}, r"filters\[0\]"),
        (["MaskQuality"], "class_path"),
    ],
)
def test_bad_configs_name_key_and_repair(tmp_path, spec, message):
    (tmp_path / "f.yaml").write_text(json.dumps(spec))
    with pytest.raises(InputError, match=message):
        load_filter(tmp_path / "f.yaml")


def test_unscored_sets_and_own_folders_are_refused(tmp_path, capsys):
    scored_set(tmp_path / "set", scores=False)
    config = ["--config", str(CONFIGS / "mask_quality.yaml")]
    assert main(["filter", str(tmp_path / "set"), str(tmp_path / "out"), *config]) == 2
    assert "synthrad score" in capsys.readouterr().err
    assert main(["filter", str(tmp_path / "set"), str(tmp_path / "set"), *config]) == 2
    assert "another folder" in capsys.readouterr().err


def test_nested_filters_build():
    spec = {
        "class_path": "synthrad.fusion.RandomKeep",
        "init_args": {
            "like": {"class_path": "AllOf", "init_args": {"filters": [{"class_path": "MaskQuality"}]}},
            "cells": {"classes": ["caries"]},
        },
    }
    built = load_filter(spec)
    assert (
        isinstance(built, RandomKeep) and isinstance(built.like, AllOf) and built.cells.classes == ["caries"]
    )
