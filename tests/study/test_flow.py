"""Counts of the participant flow, and a diagram that holds them all."""

import re
import xml.etree.ElementTree as ET

import numpy as np
from fake_run import ARMS, NET, STRUCTURES, TASK, cases_of, write_images

from synthrad.records import Manifest
from synthrad.study.flow import draw_flow, flow_of
from synthrad.study.verdicts import Endpoint

END = Endpoint(TASK, NET, "dice", layer="abnormality")
ROWS = [{"arm": a, "role": role, "rows_real": 80, "rows_added": added, "source": source, "same_as": "real_only" if a == "minimal" else None}
        for a, (_, source, role, _, added, _) in ARMS.items()]


def made(tmp_path):
    real = write_images(tmp_path / "real", 18, "real", 0)
    table = real.table
    table.loc[0, "mask:abnormality"] = ""
    real = Manifest(table, real.info)
    cases = cases_of("real_only", 0, 0.0)
    held = list(real.where(split="test").column("digest"))
    cases = cases[cases["image"].isin([f"i{k}" for k in range(5)])].copy()  # one of six test images is not tested
    cases["image"] = [held[int(i[1:])] for i in cases["image"]]
    cases.loc[cases["subject"] == "s0", ["tp", "fn"]] = 0  # no reference pixel
    return flow_of(real, cases, END, ROWS, ["gan: 90 drawn, 80 kept"], {}, ["abnormality"], 5)


def test_counts(tmp_path):
    flow = made(tmp_path)
    assert flow.prepared == (18, 18) and flow.splits == {"train": (12, 12), "test": (6, 6)}
    assert flow.tested == (5, 5) and flow.defined == 4
    left = {what: number for number, what, _ in flow.excluded}
    assert left == {"train images without a mask of layer abnormality": 1, "test images not tested": 1, "test patients without a reference pixel": 1}
    assert ("left out", "test images not tested", 1, None, "no mask of layer abnormality is known") in flow.table().rows


def test_the_diagram_says_every_count_inside_its_boxes(tmp_path):
    flow = made(tmp_path)
    root = ET.fromstring(draw_flow(flow))
    text = " ".join("".join(e.itertext()) for e in root.iter() if e.tag == "text")
    for said in ("18 images of 18 patients", "12 images", "6 patients", "gan: 90 drawn, 80 kept", "matched: 80 real + 80 synthetic from gan",
                 "matched_duplicate: 80 real + 80 repeated real", "adds no row, the same as real_only", "5 images of 5 patients; 4 patients"):
        assert said in text
    assert "18 images of 18 patients prepared" in root.get("aria-label")
    boxes = [[float(e.get(k)) for k in ("x", "y", "width", "height")] for e in root if e.tag == "rect"]
    for e in (e for e in root if e.tag == "text"):
        x, y = float(e.get("x")), float(e.get("y"))
        inside = [b for b in boxes if b[0] <= x and y <= b[1] + b[3] and y >= b[1] and x + 6.2 * len(e.text) <= b[0] + b[2] + 1]
        assert inside, e.text
    assert float(re.search(r"viewBox=\"-1 -1 \d+ (\d+)", draw_flow(flow)).group(1)) >= max(b[1] + b[3] for b in boxes)


def test_hostile_names_stay_text(tmp_path):
    flow = made(tmp_path)
    bad = type(flow)(flow.prepared, flow.splits, ["<script>x</script>"], [("<b>", "adding", 1, 1, "&", "")], flow.tested, 4)
    assert "<script>" not in draw_flow(bad) and "&lt;b&gt;" in draw_flow(bad)


def test_a_finding_too_rare_to_judge_is_named(tmp_path):
    real = write_images(tmp_path / "real", 18, "real", 0)
    cases = cases_of("real_only", 0, 0.0).assign(kind="classification", layer="", target=0.0, probability=0.5)
    cases.loc[cases["class_name"] == STRUCTURES[0], "target"] = np.tile([0.0, 1.0], 20)
    flow = flow_of(real, cases, Endpoint(TASK, NET, "auroc"), ROWS, [], {}, [], 5)
    assert [(n, what) for n, what, _ in flow.excluded] == [(40, f"answers for {STRUCTURES[1]}")]
