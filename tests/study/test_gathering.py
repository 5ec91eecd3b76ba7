import json
from types import SimpleNamespace

import numpy as np

from synthrad.lineage import Fitted, Lineage
from synthrad.study.gathering import _banners, _collapsed, _copies, _deaf


def test_a_source_of_copies_is_named_with_its_numbers_and_a_fair_one_is_not():
    rng = np.random.default_rng(0)
    null = rng.normal(0.8, 0.03, 40)
    line = _copies("leaky", np.r_[rng.normal(0.8, 0.03, 20), np.full(30, 0.999)], null)
    assert "'leaky' holds near copies" in line and "of 50 images" in line and f"more than {null.max():.3f}" in line
    assert _copies("fair", rng.normal(0.8, 0.03, 50), null) == ""


def test_a_generator_that_does_not_draw_what_it_is_asked_for_is_named(tmp_path):
    def row(auroc, low, high, real):
        return {"auroc": auroc, "low": low, "high": high, "real_auroc": real, "asked": 50, "asked_absent": 50}

    fit = tmp_path / "sources" / "gan" / "generator-1"
    (fit / "checkpoints").mkdir(parents=True)
    (fit.parent / "generator.json").write_text(json.dumps({"checkpoint": "sources/gan/generator-1/checkpoints/last.ckpt"}))
    graph = {"sources": {"gan": {"checkpoint": "last", "pool": "id"}}}
    assert _deaf(tmp_path, graph) == []  # no checks
    early = {"caries": row(0.5, 0.4, 0.6, 0.9)}
    last = {"caries": row(0.9, 0.8, 0.95, 0.95), "crown": row(0.52, 0.44, 0.61, 0.97), "hidden": row(0.5, 0.4, 0.6, 0.7),
            "weak": row(0.6, 0.52, 0.65, 0.9), "unclear": row(0.69, 0.49, 0.89, 0.9),
            "unsure": {**row(0.5, 0.4, 0.6, 0.9), "real_low": 0.55}, "rare": row(0.5, 0.4, 0.6, None), "one": row(None, None, None, 0.9)}
    (fit / "adherence.jsonl").write_text("".join(json.dumps({"findings": f}) + "\n" for f in (early, last)))
    (line,) = _deaf(tmp_path, graph)
    assert "Source 'gan' hardly draws what it is asked for" in line and "crown (0.97; 0.52 [0.44, 0.61])" in line
    assert not any(word in line for word in ("caries", "hidden", "weak", "unclear", "unsure", "rare", "one ("))
    assert _deaf(tmp_path, {"sources": {"gan": {"checkpoint": "last"}}}) == []  # only others start from it
    (fit / "adherence.jsonl").write_text("")
    assert _deaf(tmp_path, graph) == []
    assert _deaf(tmp_path, {"sources": {"gan": {"checkpoint": "best", "pool": "id"}}}) == []


def test_a_generator_that_had_collapsed_at_the_end_is_named(tmp_path):
    fit = tmp_path / "sources" / "gan" / "generator-1"
    (fit / "checkpoints").mkdir(parents=True)
    (fit.parent / "generator.json").write_text(json.dumps({"checkpoint": "sources/gan/generator-1/checkpoints/last.ckpt"}))
    graph = {"sources": {"gan": {"checkpoint": "last", "pool": "id"}}}
    lines = [{"collapsed": c, "variety": 0.9, "structure_variety": s} for c, s in ((True, 0.1), (False, 0.9), (True, 0.3))]
    for number, named in ((3, True), (2, False), (0, False)):
        (fit / "fidelity.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines[:number]))
        found = _collapsed(tmp_path, graph)
        assert len(found) == named and (not named or "'gan' has collapsed" in found[0] and "structure 0.30" in found[0])


def test_narrow_generators_are_named_once_each():
    lineage = Lineage((Fitted("generator", "d"),))
    pools = {name: [SimpleNamespace(info=SimpleNamespace(lineage=lineage))] for name in ("a", "b", "c", "wide")}
    configs = {"a": "gan_64_cpu.yaml", "b": "gan_64_cpu.yaml", "c": "ldm_cpu.yaml", "wide": "gan_64.yaml", "undrawn": "vae_cpu.yaml"}
    study = SimpleNamespace(sources={n: SimpleNamespace(generator=g) for n, g in configs.items()})
    assert [line.partition(":")[0] for line in _banners(study, pools)] == [
        "Sources 'a', 'b' come from a narrow generator (gan_64_cpu.yaml)", "Source 'c' comes from a narrow generator (ldm_cpu.yaml)"]
