"""Replicates of the whole pipeline: what is pooled, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from replicated import STUDY, dataset

from synthrad.__main__ import main
from synthrad.cases import CASE_COLUMNS, write_cases
from synthrad.errors import InputError
from synthrad.statistics.corrections import nadeau_bengio
from synthrad.study.pooling import open_replicates, pool
from synthrad.study.replicating import resplit

ARMS = {"real_only": ("RealOnly", "reference", [], 0.0), "fused": ("Matched", "adding", ["d", "a"], 0.08), "d": ("DuplicateReal", "control", [], 0.0),
        "a": ("AugmentedReal", "control", [], 0.0), "only": ("SyntheticOnly", "replacing", [], -0.2), "real_only_longer": ("RealOnly", "longer", [], 0.0)}


def segmented(people, arm, seed, effect, rng):
    q = (400 * np.clip(0.7 + effect + rng.normal(0, 0.05, len(people)), 0.02, 0.98)).round()
    part = pd.DataFrame({"kind": "segmentation", "task": "t", "net": "n", "arm": arm, "seed": seed, "image": [f"i{p}" for p in people],
                         "subject": people, "external": "", "layer": "L", "class_name": "c", "tp": q, "fp": 0, "fn": 400 - q, "tn": 9,
                         "probability": np.nan, "target": np.nan, "threshold": np.nan})
    return part[list(CASE_COLUMNS)]


def write_run(lab, k, change=None, shift=0.0, arms=ARMS):
    """A finished run folder of replicate k; the controls are called otherwise in every second one."""
    real = resplit(dataset(80), k)
    real.write(lab / f"data{k}")
    said = {**STUDY, "name": f"s_r{k}", "manifest": f"data{k}", "sources": {"gan": {**STUDY["sources"]["gan"], "seed": k}}, **(change or {})}
    run, rng = lab / "runs" / f"s_r{k}", np.random.default_rng(k)
    (run / "arms").mkdir(parents=True)
    (run / "study.yaml").write_text(yaml.safe_dump(said))
    people = sorted(set(real.where(split="test").column("subject")))
    rename = {"d": "other_d"} if k % 2 else {}
    fits, luck = {}, rng.normal(0, 0.01)
    for arm, (strategy, role, controls, effect) in arms.items():
        key = f"t/n/{rename.get(arm, arm)}"
        fits[key] = {"identity": "x", "source": None, "seeds": 2}
        for seed in range(2):
            home = run / key / f"seed{seed}"
            write_cases(home / "cases.parquet", segmented(people, rename.get(arm, arm), seed, effect + (luck + shift) * (arm == "fused"), rng))
            (home / "fit.json").write_text(json.dumps({"identity": "x"}))
        (run / key / "done.json").write_text(json.dumps([{"seed": s, "identity": "x"} for s in range(2)]))
        if role != "longer":
            row = {"name": rename.get(arm, arm), "strategy": strategy, "role": role, "controls": [rename.get(c, c) for c in controls], "same_as": None}
            (run / "arms" / f"{row['name']}.json").write_text(json.dumps(row))
    (run / "arms.json").write_text("[]")
    (run / "verdicts.json").write_text("[]")
    (run / "endpoint.sha256").write_text("one")
    (run / "graph.json").write_text(json.dumps({"sources": {}, "fits": fits, "working_folder": str(lab), "study_file": f"s_r{k}.yaml"}))
    return run


def test_five_replicates_find_what_is_there(tmp_path, capsys):
    runs = [write_run(tmp_path, k) for k in range(1, 6)]
    pooled = pool(runs)
    fused, only = pooled.comparisons["fused"], pooled.comparisons["only"]
    assert fused.call == "gain" and only.call == "harm" and pooled.comparisons.generalises_over == "pipeline"
    assert [c.reference for c in fused.comparisons] == ["real_only", "DuplicateReal like fused", "AugmentedReal like fused"]
    assert all(c.seeds == 5 for c in fused.comparisons) and pooled.comparisons.longer.seeds == 5 and not pooled.comparisons.undertrained
    table = pd.DataFrame(pooled.by_replicate)
    mine = table[(table["arm"] == "fused") & (table["reference"] == "real_only")]["difference"].to_numpy()
    train, test = zip(*(r.subjects for r in pooled.replicates), strict=True)
    assert pooled.test_to_train == max(b / a for a, b in zip(train, test, strict=True))
    layout = nadeau_bengio(mine, pooled.test_to_train, min(test))
    assert (fused.comparisons[0].low, fused.comparisons[0].high) == pytest.approx(layout.interval())
    assert "largest of 5 replicates" in pooled.extremes[0] and "extremes, not results" in pooled.extremes[0]
    assert any("trained from the same seed" in n for n in pooled.notes) and not any("drawn with the same seed" in n for n in pooled.notes)

    out = tmp_path / "runs" / "pooled"
    assert main(["study", "pool", *map(str, runs), "--out", str(out)]) == 0
    said, data = capsys.readouterr().out, json.loads((out / "pooled.json").read_text())
    assert fused.words in said and "5 replicates, each with its own split" in said
    assert data["verdicts"][0]["call"] == "gain" and len(data["replicates"]) == 5 and len(pd.read_csv(out / "by_replicate.csv")) == 5 * 4


def test_a_value_of_a_replicate_is_the_mean_over_its_seeds(tmp_path):
    runs = [write_run(tmp_path, k) for k in (1, 2)]
    table = pd.DataFrame(pool(runs).by_replicate)
    row = table[(table["arm"] == "only") & (table["replicate"] == "s_r2")].iloc[0]
    parts = {a: np.mean([_dice(runs[1] / f"t/n/{a}/seed{s}/cases.parquet") for s in range(2)]) for a in ("only", "real_only")}
    assert row["difference"] == pytest.approx(parts["only"] - parts["real_only"])


def _dice(path):
    rows = pd.read_parquet(path)
    return float((2 * rows["tp"] / (2 * rows["tp"] + rows["fp"] + rows["fn"])).mean())


def test_few_replicates_and_silent_studies_get_no_verdict(tmp_path):
    runs = [write_run(tmp_path, k) for k in (1, 2, 3)]
    three = pool(runs).comparisons["fused"]
    assert three.call == "no verdict" and "3 replicates, fewer than 5" in three.words and three.p is None and three.hardest.low is not None
    stamped = write_run(tmp_path, 4, {"mechanics": True})
    assert pool([*runs, stamped]).comparisons.why_silent == "mechanics"
    longer = {**ARMS, "real_only_longer": ("RealOnly", "longer", [], 0.1)}
    (tmp_path / "more").mkdir()
    late = pool([write_run(tmp_path / "more", k, arms=longer) for k in range(1, 6)])
    assert late.comparisons.undertrained and late.comparisons["fused"].call == "no verdict"


def test_refused(tmp_path):
    a, b = write_run(tmp_path, 1), write_run(tmp_path, 2)
    other = write_run(tmp_path, 3, {"tasks": {"t": {**STUDY["tasks"]["t"], "steps": 9}}})
    with pytest.raises(InputError, match=r"another tasks\.t\.steps"):
        pool([a, b, other])
    with pytest.raises(InputError, match="two or more, each once"):
        pool([a, a])
    with pytest.raises(InputError, match="two or more"):
        pool([a])
    with pytest.raises(InputError, match="no such folder"):
        pool([a, tmp_path / "nowhere"])
    unfinished = write_run(tmp_path, 4)
    (unfinished / "t/n/fused/seed1/cases.parquet").unlink()
    with pytest.raises(InputError, match="not finished"):
        pool([a, unfinished])
    sealed = write_run(tmp_path, 5)
    (sealed / "endpoint.sha256").write_text("another")
    with pytest.raises(InputError, match="another endpoint"):
        pool([a, sealed])
    (tmp_path / "twice").mkdir()
    same = write_run(tmp_path / "twice", 1)
    with pytest.raises(InputError, match="its own split"):
        pool([a, same])
    assert len(open_replicates([a, b])) == 2
    assert main(["study", "pool", str(a), "--out", str(tmp_path / "o")]) == 2


def test_an_arm_that_adds_nothing_in_one_replicate_is_left_out(tmp_path):
    runs = [write_run(tmp_path, k) for k in (1, 2)]
    path = runs[1] / "arms" / "fused.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "same_as": "real_only"}))
    found = pool(runs)
    assert [v.arm for v in found.comparisons.verdicts] == ["only"] and "fused is left out: it adds no row in s_r2" in found.notes
    assert found.largest is None
