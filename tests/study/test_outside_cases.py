"""Predictions of other trainers: scored as our own nets are, refused where they do not fit, told apart in the report."""

import csv
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from outside_lab import make_lab, rows_of, study, write_study
from PIL import Image
from tiny_set import make

from synthrad.cases import CASE_COLUMNS, write_cases
from synthrad.records import Manifest
from synthrad.study.outside_cases import Outside, banners, pixel_counts, read_outside, with_outside
from synthrad.study.planning import make_plan
from synthrad.study.settling import settled
from synthrad.study.study_file import load_study
from synthrad.tasks import SegmentationTask
from synthrad.tasks.classification import best_threshold

OUT = "runs/tiny/outside"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A lab, and exports of both tasks."""
    folder = tmp_path_factory.mktemp("import")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        patch.chdir(folder)
        make_lab(folder)
        for task in ("draw", "find"):
            for arm in ("real_only", "matched"):
                for seed in range(2):
                    assert study("export", "tiny.yaml", "--arm", arm, "--task", task, "--seed", seed, "--to", "folder", "--out", folder / f"exports/{task}-{arm}-{seed}") == 0
    return folder


@pytest.fixture
def lab(kept, tmp_path, monkeypatch):
    """The same, with a run folder of its own."""
    for part in ("real", "made", "exports"):
        (tmp_path / part).symlink_to(kept / part)
    shutil.copytree(kept / "runs", tmp_path / "runs")
    (tmp_path / "tiny.yaml").write_text((kept / "tiny.yaml").read_text())
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(kept))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(lab, arm="real_only", seed=0, noise=0.0):
    """Label pictures of the test cases of an export: the reference masks, a share of their pixels made background."""
    real, home = Manifest.read("real"), lab / f"drawn-{arm}-{seed}"
    home.mkdir(exist_ok=True)
    masks, rng = {r.digest: r.masks[0] for r in real}, np.random.default_rng(seed)
    for row in [r for r in rows_of(lab / f"exports/draw-{arm}-{seed}/cases.csv") if r["split"] == "test"]:
        mask = np.asarray(Image.open(masks[row["image"]])) if masks[row["image"]] else np.ones((32, 32), np.uint8)
        Image.fromarray(np.where(rng.random(mask.shape) < noise, 0, mask).astype(np.uint8)).save(home / f"{row['case']}.png")
    return home


def answer(lab, arm="real_only", seed=0, splits=("val", "test")):
    """A table of probabilities for an export; and the same as a mapping."""
    rng, path = np.random.default_rng(seed), lab / f"answers-{arm}-{seed}.csv"
    rows = [{"case": r["case"], "caries": f"{rng.random():.6f}", "implant": f"{rng.random():.6f}"}
            for r in rows_of(lab / f"exports/find-{arm}-{seed}/cases.csv") if r["split"] in splits]  # fmt: skip
    write(path, rows)
    return path, rows


def write(path, rows):
    with open(path, "w", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def bring(predictions, *more, net="nnunet", arm="real_only", seed=0, task="draw"):
    return study("import-cases", "tiny.yaml", predictions, "--net", net, "--arm", arm, "--seed", seed, "--task", task, *more)


def cases(net="nnunet", arm="real_only", seed=0, task="draw"):
    return pd.read_parquet(f"{OUT}/{task}/{net}/{arm}/seed{seed}/cases.parquet")


def test_pixels_are_counted_as_our_own_test_counts_them():
    rng = np.random.default_rng(0)
    drawn, reference = rng.integers(0, 4, (2, 5, 24, 16))
    scores = torch.nn.functional.one_hot(torch.tensor(drawn), 4).permute(0, 3, 1, 2).float()
    task = SegmentationTask(torch.nn.Conv2d(1, 4, 1), layers={"a": ["x", "y", "z"]})
    (ours,) = task._count(type("Batch", (), {"masks": torch.tensor(reference)[:, None]})(), [scores])
    assert [pixel_counts(d, r, 3) for d, r in zip(drawn, reference, strict=True)] == [[tuple(row) for row in image] for image in ours.tolist()]


def test_drawn_masks_become_the_cases_of_our_fits(lab, capsys):
    assert bring(draw(lab)) == 0
    said, found = capsys.readouterr().out, cases()
    assert "synthrad study report tiny.yaml" in said and "8 own test images" not in said
    assert set(CASE_COLUMNS) | {"attribute:sex"} == set(found) and set(found["net"]) == {"nnunet (outside)"}
    held = Manifest.read("real").where(split="test")
    known = held.take(np.flatnonzero(held.column("mask:tooth") != ""))
    assert 0 < len(known) < len(held) and set(found["image"]) == set(known.column("digest")) and len(found) == 2 * len(known)
    assert (found["fp"] == 0).all() and (found["fn"] == 0).all() and found["tp"].sum() > 0
    assert set(found["subject"]) == set(known.column("subject"))
    assert found.groupby("class_name")["tp"].sum().to_dict() == pytest.approx(
        {name: 1024 * known.column(f"area:tooth/{name}").sum() for name in ("crown", "root")})
    assert bring(draw(lab, seed=1, noise=0.5), seed=1) == 0
    worse = cases(seed=1)
    assert (worse["fn"].sum() > 0) and (worse["tp"] + worse["fn"] == found["tp"] + found["fn"]).all() and (worse["seed"] == 1).all()


def test_pictures_of_another_size_are_brought_to_the_study_s(lab, kept, capsys):
    tasks = {"draw": {"kind": "segmentation", "steps": 2, "size": [16, 16], "nets": {"unet": {"class_path": "SmpNet"}}}}
    write_study(lab, "small", manifest=str(kept / "real"), sources={}, arms={"real_only": {"strategy": "RealOnly"}}, tasks=tasks)
    assert study("export", "small.yaml", "--arm", "real_only", "--to", "folder", "--out", "exports-small") == 0
    (lab / "drawn").mkdir()
    for row in [r for r in rows_of("exports-small/cases.csv") if r["split"] == "test"]:
        Image.fromarray(np.pad(np.ones((8, 16), np.uint8), ((0, 8), (0, 0)))).save(lab / f"drawn/{row['case']}.png")
    assert study("import-cases", "small.yaml", "drawn", "--net", "other", "--arm", "real_only", "--seed", "0") == 0
    found = pd.read_parquet("runs/small/outside/draw/other/real_only/seed0/cases.parquet")
    crown = found[found["class_name"] == "crown"]
    assert (crown["tp"] + crown["fp"] == 512).all() and (crown[["tp", "fp", "fn", "tn"]].sum(axis=1) == 1024).all()
    assert "brought to the study's 32 x 32 by their nearest pixels" in capsys.readouterr().out


def test_probabilities_become_cases_with_thresholds_of_validation(lab):
    path, rows = answer(lab)
    assert bring(path, net="other", task="find") == 0
    found, real, given = cases("other", task="find"), Manifest.read("real"), {r["case"]: r for r in rows}
    names = {r["image"]: r for r in rows_of("exports/find-real_only-0/cases.csv")}
    for name in ("caries", "implant"):
        mine = found[found["class_name"] == name].set_index("image")
        for split in ("val", "test"):
            part = real.where(split=split)
            p = np.array([float(given[names[d]["case"]][name]) for d in part.column("digest")])
            targets = part.column(f"label:{name}")
            if split == "test":
                assert np.allclose(mine.loc[list(part.column("digest")), "probability"], p)
                assert np.array_equal(mine.loc[list(part.column("digest")), "target"], targets, equal_nan=True)
            else:
                seen = ~np.isnan(targets)
                best = best_threshold(torch.tensor(p[seen], dtype=torch.float32), torch.tensor(targets[seen]).long())
                assert np.allclose(mine["threshold"], best)
    assert len(found) == 2 * len(real.where(split="test"))


def test_probabilities_that_equal_their_threshold_are_positive(lab):
    real = Manifest.read("real")
    known = {r.digest: dict(zip(real.info.classes, r.labels, strict=True)) for r in real}
    path, rows = answer(lab)
    images = {r["case"]: r["image"] for r in rows_of(lab / "exports/find-real_only-0/cases.csv")}
    write(path, [{**r, **{c: 0.6 if known[images[r["case"]]][c] == 1 else 0.2 for c in ("caries", "implant")}} for r in rows])  # 0.6 is less in float64 than in float32
    assert bring(path, net="perfect", task="find") == 0
    found = cases("perfect", task="find")
    for name, part in found.dropna(subset="target").groupby("class_name"):
        assert set(part["target"]) == {0, 1} and ((part["probability"] >= part["threshold"]) == (part["target"] == 1)).all(), name


def test_without_validation_cases_there_is_no_threshold(lab, capsys):
    path, rows = answer(lab, splits=("test",))
    assert bring(path, net="other", task="find") == 0
    assert cases("other", task="find")["threshold"].isna().all() and "F1 is undefined" in capsys.readouterr().out
    _, both = answer(lab)
    write(path, both[1:])  # one validation case is missing
    assert bring(path, "--again", net="other", task="find") == 2
    assert "row of the validation images, or none of them" in capsys.readouterr().err


def first(home):
    return sorted(home.glob("*.png"))[0]


def resize(home):
    Image.open(first(home)).resize((33, 32)).save(first(home))


def repaint(home):
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(first(home))


def add(home):
    shutil.copy(first(home), home / "patient7.png")


SPOILT = {
    "missing": (lambda home: first(home).unlink(), ("7 of 8", "test00001-", "predict the missing cases")),
    "extra": (add, ("1 label picture of no test case (patient7)", "take them out")),
    "size": (resize, ("32 x 33 pixels", "32 x 32, as exported")),
    "label": (repaint, ("the label 255", "0 background, 1 crown, 2 root")),
    "broken": (lambda home: first(home).write_bytes(b"no picture"), ("cannot be read", ".png")),
    "colours": (lambda home: Image.fromarray(np.random.default_rng(0).integers(0, 2, (32, 32, 3), dtype=np.uint8)).save(first(home)), ("a colour picture",)),
}


@pytest.mark.parametrize("case", SPOILT)
def test_pictures_that_do_not_fit_are_refused_and_nothing_is_kept(lab, capsys, case):
    home = draw(lab)
    spoil, said = SPOILT[case]
    spoil(home)
    assert bring(home) == 2
    printed = capsys.readouterr().err
    assert all(word in printed for word in (*said, "drawn-real_only-0")), printed
    assert not list((lab / OUT).rglob("*.parquet"))


def test_the_wrong_arm_seed_net_or_place_is_named(lab, capsys):
    home = draw(lab)
    for argv, said in (({"arm": "matched"}, "exported for task 'draw', arm 'real_only', seed 0"), ({"seed": 1}, "exported for task 'draw', arm 'real_only', seed 0"),
                       ({"net": "unet"}, "which the study trains itself"), ({"net": "nn U-Net"}, "lower case letters"), ({"net": "nn\n"}, "lower case letters"), ({"arm": "lost"}, "one of matched, "),
                       ({"task": "paint"}, "one of draw, find"), ({"task": "find", "net": "other"}, "a CSV with the columns case, caries, implant")):
        assert bring(home, **argv) == 2
        assert said in capsys.readouterr().err
    assert bring(lab / "nowhere") == 2 and "a folder of label pictures" in capsys.readouterr().err


def test_tables_that_do_not_fit_are_refused(lab, capsys):
    path, rows = answer(lab)

    def refused(changed, *said):
        write(path, changed)
        assert bring(path, net="other", task="find") == 2
        printed = capsys.readouterr().err
        assert all(word in printed for word in (*said, path.name)), printed

    refused([{**rows[0], "caries": "1.5"}, {**rows[1], "implant": ""}, *rows[2:]], "row 2, column 'caries': found '1.5'", "row 3, column 'implant': found ''")
    refused([*rows, rows[-1]], "stands in an earlier row")
    refused([{k: v for k, v in r.items() if k != "implant"} for r in rows], "column 'implant': missing")
    refused([{**r, "cares": "0"} for r in rows], "column 'cares': unknown; did you mean", "caries")
    refused([*rows, {**rows[0], "case": "someone"}], "1 row of no test case (someone)")
    refused(rows[:-1], "7 of 8")
    path.write_text("\n".join(line if k == 0 else f"{line},0.5" for k, line in enumerate(path.read_text().splitlines())))
    assert bring(path, net="other", task="find") == 2 and "rows with more cells than the header" in capsys.readouterr().err
    assert bring(lab / "none.csv", net="other", task="find") == 2 and "no such file" in capsys.readouterr().err


def test_external_sets_are_predicted_whole_or_not_at_all(lab, kept, capsys):
    make(lab / "far", rows=24, seed=5, name="far")
    write_study(lab, "far_study", manifest=str(kept / "real"), external={"far": str(lab / "far")}, sources={}, arms={"real_only": {"strategy": "RealOnly"}})
    assert study("export", "far_study.yaml", "--arm", "real_only", "--to", "folder", "--out", "exports-far") == 0
    (lab / "drawn").mkdir()
    table = [r for r in rows_of("exports-far/cases.csv") if r["split"] == "test"]
    assert {r["external"] for r in table} == {"", "far"} and all(r["case"].startswith("test_far") == (r["external"] == "far") for r in table)
    for row in table:
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(lab / f"drawn/{row['case']}.png")

    def call(*more):
        return study("import-cases", "far_study.yaml", "drawn", "--net", "other", "--arm", "real_only", "--seed", "0", *more)

    assert call() == 0
    found = pd.read_parquet("runs/far_study/outside/draw/other/real_only/seed0/cases.parquet")
    assert set(found["external"]) == {"", "far"} and (found["fn"] > 0).any()
    far = sorted((lab / "drawn").glob("test_far*.png"))
    far[0].unlink()
    assert call("--again") == 2 and f"{len(far) - 1} of {len(far)}" in capsys.readouterr().err
    for path in far[1:]:
        path.unlink()
    assert call("--again") == 0 and "external set far: not tested there" in capsys.readouterr().out


def test_each_layer_has_a_folder(lab, kept, capsys):
    real = Manifest.read(kept / "real")
    two = real.with_columns({"mask_digest": [""] * len(real), "mask:bone": real.column("mask:tooth"), "area:bone/jaw": real.column("area:tooth/crown"), "area:bone/nerve": real.column("area:tooth/root")})
    Manifest(two.table, replace(real.info, layers={"tooth": ("crown", "root"), "bone": ("jaw", "nerve")})).write(lab / "two")
    tasks = {"draw": {"kind": "segmentation", "steps": 2, "nets": {"unet": {"class_path": "SmpNet"}}}}
    write_study(lab, "layered", manifest="two", sources={}, arms={"real_only": {"strategy": "RealOnly"}}, tasks=tasks)
    assert study("export", "layered.yaml", "--arm", "real_only", "--to", "folder", "--out", "exports-two") == 0
    names = [r["case"] for r in rows_of("exports-two/cases.csv") if r["split"] == "test"]
    for layer in ("tooth", "bone"):
        assert study("import-cases", "layered.yaml", "drawn", "--net", "other", "--arm", "real_only", "--seed", "0") == 2
        assert "one a layer of task 'draw': tooth, bone" in capsys.readouterr().err or layer == "tooth"
        (lab / "drawn" / layer).mkdir(parents=True)
        for name in names:
            Image.fromarray(np.zeros((32, 32), np.uint8)).save(lab / f"drawn/{layer}/{name}.png")
    assert study("import-cases", "layered.yaml", "drawn", "--net", "other", "--arm", "real_only", "--seed", "0") == 0
    found = pd.read_parquet("runs/layered/outside/draw/other/real_only/seed0/cases.parquet")
    assert set(zip(found["layer"], found["class_name"], strict=True)) == {("tooth", "crown"), ("tooth", "root"), ("bone", "jaw"), ("bone", "nerve")}


def test_a_second_import_is_asked_for_and_counted(lab, capsys):
    assert bring(draw(lab)) == 0 and bring(draw(lab, noise=0.2)) == 2
    assert "--again replaces them" in capsys.readouterr().err and (cases()["fn"] == 0).all()
    assert bring(draw(lab, noise=0.2), "--again") == 0 and (cases()["fn"] > 0).any()
    assert json.loads((lab / OUT / "draw/nnunet/real_only/seed0/outside.json").read_text())["imports"] == 2


def rows(net, arm, seeds):
    return pd.DataFrame({"task": "t", "net": net, "external": "", "arm": arm, "seed": list(seeds)})


def test_arms_are_compared_where_their_reference_has_the_same_seeds():
    own = rows("unet", "real_only", (0, 1))
    imported = pd.concat([rows("a (outside)", "real_only", (0, 1)), rows("a (outside)", "matched", (0, 1)), rows("a (outside)", "short", (0,)), rows("b (outside)", "matched", (0, 1))])
    fits = tuple({"task": "t", "net": n, "arm": a, "seed": s, "note": "nnU-Net", "imports": 1 + (a == "short")} for n, a, s in imported[["net", "arm", "seed"]].itertuples(index=False))
    outside = Outside(imported, fits, ("t/c/matched/seed0",))
    every, comparable = with_outside(own, outside, "real_only")
    assert len(every) == len(own) + len(imported)
    assert set(comparable[["net", "arm"]].itertuples(index=False, name=None)) == {("unet", "real_only"), ("a (outside)", "real_only"), ("a (outside)", "matched")}
    a, b, stale = banners(outside, "real_only")
    assert "'a (outside)'" in a and "(nnU-Net)" in a and "not imported for the same seeds: short." in a and "up to 2 times" in a
    assert "not imported for the same seeds: matched." in b and "times" not in b and "t/c/matched/seed0" in stale
    assert with_outside(own, Outside(None, ()), "real_only") == (own, own) and banners(Outside(None, ()), "real_only") == []


def finish(lab):
    """Fits of the study's own nets, as far as a report looks at them: their cases are predictions that were brought in as another net's."""
    graph = json.loads((lab / "runs/tiny/graph.json").read_text())
    for key, spec in graph["fits"].items():
        task, net, arm = key.split("/")
        done = []
        for seed in range(2):
            source = "matched" if arm.startswith("matched") else arm
            home = lab / "runs/tiny" / key / f"seed{seed}"
            facts = {"steps": 4, "best_step": 4, "seconds": 1.0, "score_val": 0.5, "parameters": 10, "trained": 10, "identity": spec["identity"]}
            home.mkdir(parents=True)
            write_cases(home / "cases.parquet", cases("nnunet", source, seed, task).assign(net=net, arm=arm))
            (home / "fit.json").write_text(json.dumps(facts))
            done.append({**facts, "task": task, "net": net, "arm": arm, "seed": seed})
        (lab / "runs/tiny" / key / "done.json").write_text(json.dumps(done))
    for key, identity in graph["crossed"].items():
        (lab / "runs/tiny" / key / "on_synthetic.json").write_text(json.dumps({"identity": identity, "images": {}, "notes": []}))


def opened(path):
    """Study, real set and plan of a study file."""
    said = settled(load_study(path))
    real = Manifest.read(said.manifest)
    return said, real, make_plan(said, real.where(split="train", source="real"))


def test_the_report_shows_it_as_another_net_until_the_study_changes(lab, capsys):
    for task in ("draw", "find"):
        for arm in ("real_only", "matched"):
            for seed in range(2):
                predictions = draw(lab, arm, seed, noise=0.3) if task == "draw" else answer(lab, arm, seed)[0]
                assert bring(predictions, "--note", "v2, fold 0", arm=arm, seed=seed, task=task) == 0
    finish(lab)
    shutil.rmtree(lab / OUT / "find/nnunet/real_only")  # of this task one arm alone was brought in
    assert study("report", "tiny.yaml") == 0
    html, run = (lab / "runs/tiny/report.html").read_text(), lab / "runs/tiny"
    assert "was trained outside synthrad (v2, fold 0): matched (seed 0, 1), real_only (seed 0, 1)" in html
    assert "draw, nnunet (outside)" in html and "find, nnunet (outside)" in html and "Nets trained outside" in html and "trained outside is not known" in html and "not imported for the same seeds: matched" in html
    metrics, explored, nets = (pd.read_csv(run / f"tables/{name}.csv") for name in ("metrics", "exploratory", "nets"))
    assert set(metrics["net"]) == {"unet", "tiny", "nnunet (outside)"}
    mine = metrics[(metrics["net"] == "nnunet (outside)") & (metrics["task"] == "draw") & (metrics["metric"] == "Dice") & (metrics["class"] == "macro")]
    ours = metrics[(metrics["net"] == "unet") & (metrics["metric"] == "Dice") & (metrics["class"] == "macro") & metrics["arm"].isin(["real_only", "matched"])]
    assert sorted(mine["value"]) == sorted(ours["value"]) and len(mine) == 4, "the same predictions, the same numbers"
    compared = explored[explored["net"] == "nnunet (outside)"]
    assert set(compared["task"]) == {"draw"} and set(compared["arm"]) == {"matched"} and len(compared)
    row = nets[nets["net"] == "nnunet (outside)"].set_index("task")
    assert row[["parameters", "seconds a fit"]].isna().all(axis=None) and 0 < row.loc["draw", "score"] < 1 and np.isnan(row.loc["find", "score"])
    lines = [json.loads(line) for line in (run / "summary.jsonl").read_text().splitlines()]
    assert {x["steps"] for x in lines if x["net"] == "nnunet (outside)"} == {None}
    assert {v["arm"] for v in json.loads((run / "verdicts.json").read_text())} == {"matched"}

    def standing():
        assert study("status", "tiny.yaml") == 0
        return re.search(r"^report +(\w+)", capsys.readouterr().out, re.M)[1]

    assert standing() == "done"
    assert bring(draw(lab, noise=0.1), "--again") == 0 and standing() == "stale"
    facts = run / "outside/draw/nnunet/matched/seed0/outside.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "identity": "other"}))
    found = read_outside(run, *opened("tiny.yaml"))
    assert found.stale == ("draw/nnunet/matched/seed0",) and len(found.fits) == 5 and max(f["imports"] for f in found.fits) == 2
    assert not ((found.cases["task"] == "draw") & (found.cases["arm"] == "matched") & (found.cases["seed"] == 0)).any()
    for stray in ("seed0_old", "seed00"):
        shutil.copytree(run / "outside/draw/nnunet/real_only/seed0", run / "outside/draw/nnunet/real_only" / stray)
    again = read_outside(run, *opened("tiny.yaml"))
    assert again.stale == found.stale and again.fits == found.fits and len(again.cases) == len(found.cases)
    (run / "outside/draw/nnunet/real_only/seed1/cases.parquet").unlink()
    again = read_outside(run, *opened("tiny.yaml"))
    assert set(again.stale) == {*found.stale, "draw/nnunet/real_only/seed1"} and len(again.fits) == 4
    write_study(lab, seeds=1)
    assert {f["seed"] for f in read_outside(run, *opened("tiny.yaml")).fits} == {0}, "of seeds that the study no longer has nothing is shown"
    write_study(lab, size=[16, 16])
    assert read_outside(run, *opened("tiny.yaml")).cases is None


def test_layers_are_predicted_on_the_same_sets(lab, kept, capsys):
    for name, seed in (("home", 0), ("far", 5)):
        one = make(lab / name, rows=24, seed=seed, name=name)
        more = {"mask_digest": [""] * len(one), "mask:bone": one.column("mask:tooth"), "area:bone/jaw": one.column("area:tooth/crown"), "area:bone/nerve": one.column("area:tooth/root")}
        Manifest(one.with_columns(more).table, replace(one.info, layers={"tooth": ("crown", "root"), "bone": ("jaw", "nerve")})).write(lab / name)
    tasks = {"draw": {"kind": "segmentation", "steps": 2, "nets": {"unet": {"class_path": "SmpNet"}}}}
    write_study(lab, "sets", manifest="home", external={"far": "far"}, sources={}, arms={"real_only": {"strategy": "RealOnly"}}, tasks=tasks)
    assert study("export", "sets.yaml", "--arm", "real_only", "--to", "folder", "--out", "exports-sets") == 0
    for layer in ("tooth", "bone"):
        (lab / "drawn" / layer).mkdir(parents=True)
        for row in [r for r in rows_of("exports-sets/cases.csv") if r["split"] == "test" and (layer == "tooth" or not r["external"])]:
            Image.fromarray(np.zeros((32, 32), np.uint8)).save(lab / f"drawn/{layer}/{row['case']}.png")
    assert study("import-cases", "sets.yaml", "drawn", "--net", "other", "--arm", "real_only", "--seed", "0") == 2
    assert "predict an external set for every layer, or for none" in capsys.readouterr().err
