"""Audits in the report: found by the digest of the set, believed with their seal only, each rung with its power."""

import json
import os
from dataclasses import replace

import pytest
from fake_run import write_images

from synthrad.audit.likeness import Likeness
from synthrad.audit.record import VERSION, _mac, read_record
from synthrad.audit.rungs import Rung
from synthrad.errors import InputError
from synthrad.records import Manifest
from synthrad.study import audits
from synthrad.study.audits import find_audits, ladder, power

SEEN = {"exact": {1: 0.4, 5: 1.0}, "blurred": {1: 0.0, 5: 0.3}, "flipped": {1: 0.3, 5: 0.9}}
RUNGS = [Rung("copies/images", p=0.2, adjusted=0.4, reason="2 of 12 lie above all", power=SEEN, claims=("exact", "flipped"), planted=5,
              facts={"auc": 0.51, "matches": [{"subject": "secret patient"}]}, verdict="pass"),
         Rung("membership", p=0.01, adjusted=0.02, auc=(0.7, 0.62, 0.78), reason="members are told", verdict="fail"),
         Rung("attributes", reason="no such test")]

LIKE = [Likeness("kid", 0.25, 0.1, 0.4, -0.01, space="radiomics", best="0").to_dict(), Likeness("kid", 9.75, space="radiomics", group="sex=F").to_dict(),
        Likeness("coverage", space="radiomics", reason="needs 20, has 3").to_dict()]


def write_record(path, drawn, real, rungs=RUNGS, **more):
    record = {"identity": "i", "set": "s", "set_digest": drawn.digest, "images": len(drawn), "real": "real", "real_digest": real.digest, "banner": "", "looks": 1,
              "trials": 20, "rungs": [r.to_dict() for r in rungs], "likeness": LIKE, "format": VERSION, "synthrad": "0"} | more
    record = json.loads(json.dumps(record))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record | {"mac": _mac(record)}))


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> tuple[Manifest, Manifest, Manifest]:
    folder = tmp_path_factory.mktemp("sets")
    return tuple(write_images(folder / n, 6, s, k) for k, (n, s) in enumerate((("real", "real"), ("a", "synthetic"), ("b", "synthetic"))))


def test_a_set_is_known_by_its_digest_and_another_gets_its_command(tmp_path, sets):
    real, drawn, other = sets
    write_record(tmp_path / "somewhere" / "audit.json", drawn, real)
    (tmp_path / "somewhere" / "pairs.png").write_bytes(b"")
    (tmp_path / "somewhere" / "gate.json").write_text(json.dumps({"identity": "i", "accepted": {"attributes": "there are none"}}))
    known, unknown = find_audits(tmp_path, {"gan": [drawn, other]}, real, "data/mine")
    assert known.record["images"] == 6 and known.same_data and known.accepted == {"attributes": "there are none"}
    assert known.pictures == ("somewhere/pairs.png",) and known.says == "FAILED its audit (membership)"
    assert unknown.record is None and unknown.where == "gan, draw 1" and unknown.says == "was not audited"
    assert unknown.command == f"synthrad audit {other.info.roots['here']} --real data/mine --out {tmp_path}/audits/gan/draw1 --gate"
    (moved,) = find_audits(tmp_path, {"gan": [drawn]}, other, "data/other")
    assert not moved.same_data


def test_the_draw_before_the_filter_is_asked_for(tmp_path, sets, monkeypatch):
    real, drawn, _ = sets
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "runs" / "s" / "pool"
    filtered = Manifest(drawn.table, replace(drawn.info, roots={"here": str(home)}, lineage=replace(drawn.info.lineage, settings={"filter": {}})))
    (home / "round0" / "synthetic").mkdir(parents=True)
    (home / "round0" / "synthetic" / "dataset.yaml").touch()
    (found,) = find_audits(tmp_path / "runs" / "s", {"gan": [filtered]}, real, "data/mine")
    assert found.command == ("synthrad audit runs/s/pool --real data/mine --out runs/s/audits/gan/draw0 --unfiltered runs/s/pool/round0/synthetic --gate")


def test_a_record_that_was_changed_by_hand_is_not_believed(tmp_path, sets):
    real, drawn, _ = sets
    path = tmp_path / "audits" / "gan" / "draw0" / "audit.json"
    write_record(path, drawn, real)
    assert read_record(path)["images"] == 6
    path.write_text(path.read_text().replace('"fail"', '"pass"'))
    with pytest.raises(InputError, match="changed since"):
        read_record(path)
    (found,) = find_audits(tmp_path, {"gan": [drawn]}, real, "data/mine")
    assert found.record is None and "changed" in found.refused and found.says == "has no audit that can be believed"
    with pytest.raises(InputError, match="no record"):
        read_record(tmp_path / "none.json")


def test_the_ladder_tells_the_weakest_claimed_leak_and_no_patient(tmp_path, sets):
    real, drawn, _ = sets
    write_record(tmp_path / "audit.json", drawn, real)
    (found,) = find_audits(tmp_path, {"gan": [drawn]}, real, "d")
    rows = {row[0]: dict(zip(audits.LADDER, row, strict=True)) for row in ladder(found).rows}
    first = rows["copies/images"]
    assert (first["weakest claimed leak"], first["patients planted"], first["power there"], first["AUC"]) == ("flipped", 5, 0.9, 0.51)
    assert rows["membership"]["AUC high"] == 0.78 and rows["attributes"]["weakest claimed leak"] is None
    assert len(power(found).rows) == 6 and ("copies/images", "blurred", "no", 5, 0.3) in power(found).rows
    for text in (ladder(found).csv(), power(found).csv(), found.says):
        assert "secret" not in text


def test_a_set_that_failed_is_not_cleared_by_a_later_audit_and_an_old_record_is_not_believed(tmp_path, sets):
    real, drawn, _ = sets
    passed = [Rung("copies/images", p=0.5, adjusted=0.5, verdict="pass")]
    write_record(tmp_path / "audits" / "a" / "draw0" / "audit.json", drawn, real, format=VERSION - 1)
    assert "another version" in find_audits(tmp_path, {"a": [drawn]}, real, "data/real")[0].refused
    for k, rungs in enumerate((RUNGS, passed)):
        write_record(tmp_path / str(k) / "audit.json", drawn, real, rungs)
        os.utime(tmp_path / str(k) / "audit.json", (k + 10**9, k + 10**9))
    assert "FAILED" in find_audits(tmp_path, {"a": [drawn]}, real, "data/real")[0].says
