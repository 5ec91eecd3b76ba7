"""`synthrad audit --checkpoint`: the weights of a set's own generator, here of one that learned next to nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_generator import fit_command

from synthrad.__main__ import main
from synthrad.audit import copying, membership_weights
from synthrad.audit.membership_weights import load_weights
from synthrad.callbacks import newest_valid
from synthrad.data.phantom import write_phantoms
from synthrad.errors import InputError
from synthrad.lineage import Lineage
from synthrad.metrics.copies import Moves
from synthrad.records import Manifest

FEW = Moves(degrees=(0.0,), scales=(1.0,), shift=0.07, coarse=16, fine=16, refined=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Phantoms, a generator of them that was hardly trained, and a set that it drew."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        write_phantoms("real", 140, (32, 32), 0, fractions=(0.3, 0.1, 0.3, 0.3))
        assert main(fit_command(Path("real"), folder / "run", "Diffusion", 16, 24)) == 0
        checkpoint = str(newest_valid(folder / "run"))
        assert main(["sample", "--checkpoint", checkpoint, "--manifest", "real", "--out", "drawn", "--number", "30", "--device", "cpu"]) == 0
    return folder, checkpoint


@pytest.fixture(autouse=True)
def there(made, monkeypatch):
    monkeypatch.chdir(made[0])
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(made[0]))
    monkeypatch.setattr(copying.copy_rungs, "__defaults__", (*copying.copy_rungs.__defaults__[:-1], FEW))
    monkeypatch.setitem(membership_weights.weights_rungs.__kwdefaults__, "copies", 1)
    monkeypatch.setitem(membership_weights.weights_rungs.__kwdefaults__, "showings", 8)


@pytest.mark.slow
def test_a_generator_that_learned_next_to_nothing_gives_nobody_away(made, capsys):
    command = ["audit", "drawn", "--real", "real", "--out", "out", "--trials", "20"]
    assert main([*command, "--checkpoint", made[1]]) == 0
    said = capsys.readouterr().out
    record = json.loads(Path("out/audit.json").read_text())
    found = {r["name"]: r for r in record["rungs"]}
    for rung in (found["membership/denoising"], found["membership/neighbour"]):
        assert rung["p"] > 0.05 and rung["auc"][1] < 0.5 < rung["auc"][2] and rung["verdict"] in ("pass", "inconclusive")
    assert rung["planted"] == 20 and set(rung["power"]["overfitted"]) == {"20", "25"} and "20, 25: seen" in rung["reason"]
    assert record["checkpoint_digest"] == Manifest.read("drawn").info.lineage.fitted[-1].digest and "not attacked" not in said
    assert main([*command, "--checkpoint", made[1]]) == 0 and "audited already" in capsys.readouterr().out
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "audited already" not in said and "weights were not attacked" in said and "membership/denoising" not in said


def test_too_few_patients_and_nobody_to_plant_are_said(made):
    drawn, real = Manifest.read("drawn"), Manifest.read("real")
    weights = load_weights(made[1], drawn, real, "cpu")
    rows = real.take(np.flatnonzero(np.isin(real.column("split"), ("train", "test"))))
    few = membership_weights.weights_rungs(weights, rows.take(np.flatnonzero(rows.column("split") == "train")), real, rungs=1)
    assert [r.name for r in few] == ["membership/denoising", "membership/neighbour"] and all(r.p is None and "at least 20 of each" in r.reason for r in few)
    alone = membership_weights.weights_rungs(weights, rows, rows, rungs=1)
    assert [r.name for r in alone] == [r.name for r in few]
    assert all(not r.claims and "fewer than 20 patients of the splits val and audit" in r.reason and r.p is not None for r in alone)


def test_a_checkpoint_that_is_not_the_sets_own_is_refused(made):
    drawn, real = Manifest.read("drawn"), Manifest.read("real")
    lineage = drawn.info.lineage
    other = Manifest(drawn.table, replace(drawn.info, lineage=Lineage((replace(lineage.fitted[-1], digest="a" * 64),))))
    with pytest.raises(InputError, match="was not drawn from"):
        load_weights(made[1], other, real)
    with pytest.raises(InputError, match="names no generator"):
        load_weights(made[1], Manifest(drawn.table, replace(drawn.info, lineage=Lineage())), real)
    fewer = replace(real.info, classes=real.info.classes[:-1])
    with pytest.raises(InputError, match="classes: found"):
        load_weights(made[1], drawn, Manifest(real.table.drop(columns=[f"label:{real.info.classes[-1]}"]), fewer))
