"""`synthrad audit` as a user types it, on phantoms that a clean or a leaking maker drew."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from synthrad.__main__ import main
from synthrad.audit import copying
from synthrad.data.phantom import write_phantoms
from synthrad.data.phantom_dialled import draw_dialled
from synthrad.errors import RunError
from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key
from synthrad.metrics.copies import Moves
from synthrad.records import Manifest

FEW = Moves(degrees=(-5.0, 0.0, 5.0), scales=(0.9, 1.0, 1.1), shift=0.07, coarse=24, fine=32, refined=2)
RUNGS = ["copies/images", "copies/features", "copies/masks", "membership/nearest", "re-identification", "attributes"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        real = write_phantoms("real", 110, (32, 48), 0)
        maker = Fitted("generator", "a" * 64, trained_on=hash_subjects(real.info.id, real.where(split="train").column("subject"), project_key()),
                       key_id=key_id(project_key()))
        known = lambda m, **settings: Manifest(m.table, replace(m.info, lineage=Lineage((maker,), settings)))  # noqa: E731
        good, copied = known(draw_dialled(real, "good", 60, "good", 7)), known(draw_dialled(real, "copied", 60, "copies", 7))
        good.write(folder / "good")
        (good[:57] + copied[:3]).write(folder / "mixed")
        known(good[:57], filter={"class_path": "x"}).write(folder / "filtered")
    return folder


@pytest.fixture(autouse=True)
def there(sets, monkeypatch):
    monkeypatch.chdir(sets)
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(sets))
    monkeypatch.setattr(copying.copy_rungs, "__defaults__", (*copying.copy_rungs.__defaults__[:-1], FEW))


def record(name):
    return json.loads(Path("out", name, "audit.json").read_text())


def test_a_clean_set_fails_no_rung_and_is_not_let_through_untested(capsys):
    assert main(["audit", "good", "--real", "real", "--out", "out/good", "--trials", "20"]) == 0
    said = capsys.readouterr().out
    found = {r["name"]: r for r in record("good")["rungs"]}
    assert list(found) == RUNGS and not any(r["verdict"] == "fail" for r in found.values())
    assert found["copies/images"]["power"]["exact"]["5"] == found["copies/masks"]["power"]["exact"]["5"] == 1
    assert "weights were not attacked" in said and record("good")["checkpoint_digest"] == "" and "anonymous" not in said
    nearest = found["membership/nearest"]
    low, value, high = (nearest["auc"][i] for i in (1, 0, 2))
    assert low < 0.5 < high and low < value < high and nearest["power"]["exact"]["5"] == 1
    alike = {(r["space"], r["metric"]): r for r in record("good")["likeness"] if not r["group"]}
    assert {s for s, _ in alike} == {"radiomics", "structure"} and alike["radiomics", "kid"]["null_low"] is not None
    assert "novelty by structure" in said and "C_T (copying)" in said and "classes and subgroups" in said
    assert found["re-identification"]["reason"].startswith("needs 10 patients with two images in the split audit, has ")
    assert found["attributes"]["reason"].startswith("needs 20 patients in the split audit, has ")
    assert "adherence: not tested: needs 20 audit subjects, has " in said and "halves of real" in said and record("good")["shortcut"][0]["auc"] > 0
    assert {f.name for f in Path("out/good").iterdir()} == {"audit.json", "copies.png", "pairs.png"}
    assert main(["audit", "good", "--real", "real", "--out", "out/good", "--trials", "20", "--gate"]) == 1
    said = capsys.readouterr()
    assert "audited already" in said.out and "re-identification: not tested" in said.err
    reasons = [f"--accept={name}=a phantom" for name in RUNGS]  # a search as coarse as the test's is inconclusive
    assert main(["audit", "good", "--real", "real", "--out", "out/good", "--trials", "20", "--gate", *reasons]) == 0
    gate = json.loads(Path("out/good/gate.json").read_text())
    assert gate["accepted"]["membership/nearest"] == "a phantom" and gate["set_digest"] == Manifest.read("good").digest


def test_a_set_with_one_in_twenty_copied_is_stopped_and_they_are_named(capsys):
    assert main(["audit", "mixed", "--real", "real", "--out", "out/mixed", "--trials", "20", "--gate"]) == 1
    said = capsys.readouterr()
    images = next(r for r in record("mixed")["rungs"] if r["name"] == "copies/images")
    assert images["verdict"] == "fail" and "copies/images: fail" in said.err and "membership/nearest" in said.err
    mixed, real = Manifest.read("mixed"), Manifest.read("real")
    of_digest = {r.digest: r for r in real}
    for row in list(mixed)[57:]:
        source = of_digest[row.origin["content"]] if row.origin.get("content") in of_digest else of_digest[row.origin["row"]]
        pair = next(m for m in images["facts"]["matches"] if m["synthetic_row"] >= 57 and m["subject"] == source.subject)
        assert pair["similarity"] > 0.98 and f"training patient {source.subject}" in said.out


@pytest.mark.slow
def test_a_draw_that_was_filtered_is_audited_beside_what_was_kept(capsys):
    command = ["audit", "filtered", "--real", "real", "--trials", "20", "--out"]
    assert main([*command, "out/alone"]) == 0
    assert next(r for r in record("alone")["rungs"] if r["name"] == "copies of the whole draw")["verdict"] == "not tested"
    assert main([*command, "out/both", "--unfiltered", "mixed"]) == 0
    verdicts = {r["name"]: r["verdict"] for r in record("both")["rungs"]}
    assert verdicts["copies/images of the whole draw"] == "fail" and verdicts["copies/images"] != "fail"
    for whole, words in (("filtered", "filtered itself"), ("copied", "lacks 57 images")):
        assert main([*command, "out/none", "--unfiltered", whole]) == 2
        assert words in capsys.readouterr().err


def test_a_record_that_was_changed_by_hand_is_not_believed(monkeypatch, capsys):
    """It is searched again; the test above says that a search of this set closes the gate."""
    path = Path("out/mixed/audit.json")
    command = ["audit", "mixed", "--real", "real", "--out", "out/mixed", "--trials", "20", "--gate"]
    if not path.exists():
        main(command)
    assert main(command) == 1 and "audited already" in capsys.readouterr().out
    said = json.loads(path.read_text())
    for rung in said["rungs"]:
        rung["verdict"] = "pass"
    path.write_text(json.dumps(said))
    monkeypatch.setattr("synthrad.audit.command._rungs_of_images", lambda *given: (_ for _ in ()).throw(RunError("searched again")))
    assert main(command) == 1
    captured = capsys.readouterr()
    assert "audited already" not in captured.out and "searched again" in captured.err and "gate" not in captured.out


def altered(tmp_path, change, name="good"):
    """A copy of a set whose manifest was changed."""
    shutil.copytree(name, tmp_path / "set")
    made = Manifest.read(tmp_path / "set")
    change(made).write(tmp_path / "set")
    return str(tmp_path / "set")


def lineage_of(made, *fitted):
    return Manifest(made.table, replace(made.info, lineage=Lineage(fitted)))


@pytest.mark.parametrize(("change", "words"), [
    (lambda m: lineage_of(m, Fitted("generator", "b" * 64, trained_on=frozenset({"strange"}), key_id=key_id(project_key()))), "never seen"),
    (lambda m: lineage_of(m, Fitted("generator", "b" * 64, fingerprints=frozenset(Manifest.read("real").where(split="test").column("digest")))),
     "test patients that made this set"),
    (lambda m: Manifest(m.table, replace(m.info, intensity={"low": 0.0, "high": 65535.0})), "intensity of"),
    (lambda m: Manifest(m.table.drop(columns=[f"label:{m.info.classes[-1]}"]), replace(m.info, classes=m.info.classes[:-1])), "classes of"),
    (lambda m: m.with_columns({"digest": [""] * len(m)}), "no digest of it"),
])
def test_sets_that_cannot_be_audited(tmp_path, change, words, capsys):
    assert main(["audit", altered(tmp_path, change), "--real", "real", "--out", "out/odd"]) == 2
    assert words in capsys.readouterr().err


def test_files_that_changed_and_a_record_in_the_set_are_refused(tmp_path, capsys):
    path = altered(tmp_path, lambda m: m)
    shutil.copy(Manifest.read("real")[0].channels[0], Manifest.read(path)[5].channels[0])
    assert main(["audit", path, "--real", "real", "--out", "out/odd"]) == 2 and "has changed" in capsys.readouterr().err
    assert main(["audit", "good", "--real", "real", "--out", "good/audit"]) == 2 and "keep it apart" in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "words"), [
    (["real", "--real", "real"], "real images in the set"), (["good", "--real", "good"], "never seen"),
    (["good", "--real", "real", "--trials", "2"], "--trials: found 2"), (["good", "--real", "real", "--accept", "a=b"], "add --gate"),
    (["nowhere", "--real", "real"], "nowhere"), (["good", "--real", "real", "--features", "no.yaml"], "--features: found 'no.yaml'"),
    (["good", "--real", "real", "--checkpoint", "nothing.ckpt"], "no such file"),
    (["good", "--real", "real", "--checkpoint", "real/manifest.csv"], "cannot be read"),
    (["good", "--real", "real", "--shadows", "8"], "--shadows: found no --checkpoint"),
    (["good", "--real", "real", "--checkpoint", "nothing.ckpt", "--shadows", "6"], "even number of at least 8"),
    (["good", "--real", "real", "--shadow-images", "10"], "--shadow-images: found no --shadows"),
])
def test_bad_input_is_one_message(argv, words, capsys):
    assert main(["audit", *argv, "--out", "out/bad"]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
