"""The dataset card: of exactly the audited set, with every verdict and reason, and without a patient."""

import json
from dataclasses import replace

import pytest
import yaml
from tiny_set import make

from synthrad.__main__ import main
from synthrad.audit.likeness import Likeness
from synthrad.audit.record import VERSION, _mac
from synthrad.audit.rungs import Rung
from synthrad.lineage import Fitted, Lineage, hash_subjects, project_key
from synthrad.records import Manifest

POWER = {"exact": {1: 0.5, 5: 1.0}, "flipped": {1: 0.4, 5: 0.85}}
RUNGS = [Rung("copies/images", p=0.3, adjusted=0.3, power=POWER, claims=("exact", "flipped"), planted=5, reason="2 of 9",
              facts={"matches": [{"subject": "secret7", "real": "secret7.png"}]}, verdict="pass"),
         Rung("membership", auc=(0.51, 0.4, 0.59), p=0.4, adjusted=0.4, power={"exact": {5: 0.9}}, claims=("exact",), planted=5, verdict="pass")]
LIKE = [Likeness("kid", 1.234, 1.0, 2.0, -0.01, images=9, best="0", space="radiomics").to_dict(),
        Likeness("kid", 0.5, 0.4, 0.6, 0.0, images=9, best="0", space="structure").to_dict(),
        Likeness("kid", 99.25, 0.4, 0.6, 0.0, images=9, best="0", space="radiomics", group="sex=F").to_dict(),
        Likeness("coverage", space="radiomics", reason="needs 20, has 3").to_dict()]


@pytest.fixture
def made(tmp_path) -> Manifest:
    key = project_key()
    maker = Fitted("generator", "a" * 64, trained_on=hash_subjects("tiny", ["secret7", "secret8"], key), fingerprints=frozenset({"f" * 64}), notes="secret note")
    lineage = Lineage((maker,), {"truncation": 0.7, "secret": "secret setting", "filter": {"class_path": "synthrad.MaskQuality", "init_args": {"min_dice": 0.7}}})
    return make(tmp_path / "set", rows=12, source="synthetic", lineage=lineage)


def written(tmp_path, made, rungs, **more):
    record = {"identity": "i", "set": made.info.name, "set_digest": made.digest, "format": VERSION, "real": "tiny", "banner": "", "looks": 1, "trials": 20, "synthrad": "9",
              "rungs": [r.to_dict() for r in rungs], "likeness": LIKE} | more
    record = json.loads(json.dumps(record))
    (tmp_path / "audit.json").write_text(json.dumps(record | {"mac": _mac(record)}))
    return str(tmp_path / "audit.json")


def carded(tmp_path, made, rungs=RUNGS, *flags, **more) -> str:
    assert main(["card", str(tmp_path / "set"), "--audit", written(tmp_path, made, rungs, **more), *flags]) == 0
    return (tmp_path / "set" / "README.md").read_text()


def test_the_card_tells_all_and_names_nobody(tmp_path, made, capsys):
    text = carded(tmp_path, made, RUNGS, "--licence", "cc-by-4.0")
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "cc-by-4.0" and head["size_categories"] == ["n<1K"] and "synthetic" in head["tags"]
    assert "| copies/images | pass | 0.3 | – | 85%, flipped (5 patients planted) |" in text and "0.51 [0.40, 0.59]" in text
    assert "| caries | 6 | 12 |" in text and "truncation 0.7" in text and "synthrad.MaskQuality (min_dice = 0.7)" in text
    assert "| generator | known | aaaaaaaaaaaaaaaa | 2 | – |" in text and "1.23 [1, 2] | -0.01 | 0 |" in text
    assert "NOT CLEARED" not in text and "Prohibited uses" in text
    hashes = [*made.info.lineage.trained_on(), *made.info.lineage.fingerprints()]
    assert not [x for x in ("secret", "anonym", *hashes) if x in text.lower()]
    assert "dataset.yaml and manifest.csv" in capsys.readouterr().err
    before = (tmp_path / "set" / "README.md").read_bytes()
    assert carded(tmp_path, made, RUNGS, "--licence", "cc-by-4.0").encode() == before


def test_a_set_whose_gate_is_closed_begins_with_that(tmp_path, made):
    open_ = [*RUNGS, Rung("attributes", reason="no such test"), Rung("copies/masks", certain="its masks", verdict="fail")]
    (tmp_path / "gate.json").write_text(json.dumps({"identity": "i", "accepted": {"attributes": "the table | has none"}}))
    text = carded(tmp_path, made, open_, banner="lineage unknown", looks=3)
    first = text.split("---")[2].strip().splitlines()[2]
    assert first.startswith("**NOT CLEARED FOR RELEASE**") and "copies/masks: fail; lineage: lineage unknown" in first and "attributes" not in first
    assert r"| the table \| has none |" in text and "audit number 3" in text and "Not verified: lineage unknown." in text
    assert "no licence was given" in text and yaml.safe_load(text.split("---")[1])["license"] == "unknown"


def test_reasons_of_another_audit_do_not_count(tmp_path, made):
    (tmp_path / "gate.json").write_text(json.dumps({"identity": "older", "accepted": {"attributes": "none"}}))
    assert "attributes: not tested" in carded(tmp_path, made, [*RUNGS, Rung("attributes", reason="no such test")])


def test_a_set_made_from_patients_says_so(tmp_path, made):
    shown = Manifest(made.table, replace(made.info, lineage=Lineage((Fitted("generator", "a" * 64), Fitted("masks", "b" * 64)))))
    shown.write(tmp_path / "set")
    assert "They show patients: their masks are those of training patients" in carded(tmp_path, shown)


def test_an_audit_of_another_set_or_one_changed_by_hand_is_refused(tmp_path, made, capsys):
    path = written(tmp_path, made, RUNGS, set_digest="0" * 64)
    assert main(["card", str(tmp_path / "set"), "--audit", path]) == 2 and "an audit of another set" in capsys.readouterr().err
    path = written(tmp_path, made, [Rung("copies/images", certain="x", verdict="fail")])
    changed = (tmp_path / "audit.json").read_text().replace('"fail"', '"pass"')
    (tmp_path / "audit.json").write_text(changed)
    assert main(["card", str(tmp_path / "set"), "--audit", path]) == 2 and "changed since" in capsys.readouterr().err
    assert not (tmp_path / "set" / "README.md").exists()
