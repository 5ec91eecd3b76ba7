"""Pictures of an audit: whose scores, what power, and the pairs that a reader is to judge."""

import io

import numpy as np
import pytest
import torch
from known_pictures import manifest, textures
from PIL import Image

from synthrad.audit import pictures
from synthrad.audit.copying import Search
from synthrad.audit.pictures import PAIRS, SIDE, draw_audit, draw_pairs
from synthrad.audit.rungs import Rung
from synthrad.audit.sides import Sides

POWER = {"exact": {1: 0.25, 5: 1.0}, "blurred": {1: 0.0, 5: 0.5}}


def rung(name, pairs=2):
    matches = [{"subject": f"p{k}", "synthetic": f"{k}.png", "similarity": 0.9 - k / 100, "real_row": k, "synthetic_row": 3 - k % 4} for k in range(pairs)]
    return Rung(name, 0.01, power=POWER, claims=("exact",), planted=5, facts={"matches": matches}, verdict="fail")


@pytest.fixture
def searches():
    """40 members near the set and 20 others far from it."""
    member = np.arange(60) < 40
    found = Search(np.arange(60), member, np.ones(60, bool), np.zeros(60), np.arange(60), np.zeros(60, int), np.where(member, 0.75, 0.25) + np.arange(60) / 1000, None)
    return {"copies/images": found, "copies/features": found}


def test_every_search_has_its_scores_and_its_power(searches, monkeypatch):
    drawn = []
    save = pictures.Figure.savefig
    monkeypatch.setattr(pictures.Figure, "savefig", lambda self, *given, **how: drawn.append(self) or save(self, *given, **how))
    rungs = [rung("copies/images"), rung("copies/features"), Rung("attributes", reason="needs 20")]
    data = draw_audit(rungs, searches)
    assert Image.open(io.BytesIO(data)).format == "PNG" and draw_audit(rungs, searches) == data
    axes = drawn[0].axes
    assert [a.get_title(loc="center") for a in axes[::2]] == ["copies/images: fail", "copies/features: fail"]
    assert [a.get_xlabel().split(": ")[1] for a in axes[::2]] == ["correlation", "distance in standard deviations"]
    assert [t.get_text() for t in axes[0].get_legend().get_texts()] == ["training patients (members), 40", "test patients (non-members), 20"]
    assert all(0.3 < p.get_xy()[:, 1].max() <= 1 for p in axes[0].patches)  # shares of each side, not counts
    near = [p.get_xy()[p.get_xy()[:, 1] > 0][:, 0].mean() for p in axes[0].patches]
    assert near[0] > 0.7 and near[1] < 0.35
    assert [t.get_text() for t in axes[1].texts] == ["25%", "100%", "0%", "50%"]
    assert [t.get_text() for t in axes[1].get_yticklabels()] == ["exact (needed)", "blurred (beyond the search)"] and [t.get_text() for t in axes[1].get_xticklabels()] == ["1", "5"]


def test_pairs_are_the_training_image_and_then_the_synthetic_one_at_one_size(searches, monkeypatch):
    pages = []
    sheet = pictures.sheet
    monkeypatch.setattr(pictures, "sheet", lambda title, blocks, *how: pages.append(blocks) or sheet(title, blocks, *how))
    real, drawn = textures(0, 12)[0], torch.nn.functional.interpolate(textures(1, 4)[0], (32, 48))
    real = torch.nn.functional.interpolate(real, (32, 48))
    rows = manifest(range(12), "train")
    sides = Sides(drawn, real, None, None, np.zeros(0, int), np.zeros(0, int), rows, manifest(range(4)), None, rows[:0], "")
    rungs = [rung("copies/images", 12), rung("copies/features", 1), rung("copies/masks"), rung("re-identification")]
    assert Image.open(io.BytesIO(draw_pairs(sides, rungs, searches | {"copies/masks": None}))).format == "PNG"
    images, features = pages[0]  # masks show no patient; what was not searched has no pair
    assert images.title == "copies/images: nearest pairs (correlation)" and features.title.startswith("copies/features") and len(features.panels) == 2
    assert len(images.panels) == 2 * PAIRS and [p.caption for p in images.panels[:4]] == ["training patient p0", "0.png: 0.900", "training patient p1", "1.png: 0.890"]
    for k in range(PAIRS):
        for panel, image in zip(images.panels[2 * k : 2 * k + 2], (real[k, 0], drawn[3 - k % 4, 0]), strict=True):
            grey = ((image + 1) * 127.5).round().numpy().astype(np.uint8)
            assert panel.pixels.shape == (SIDE, SIDE * 3 // 2, 3) and np.array_equal(panel.pixels[2::4, 2::4, 1], grey)
