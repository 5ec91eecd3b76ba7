"""Records are believed with their seal only, and every audit of a generator's sets counts."""

import json
from dataclasses import replace

import pytest
from known_pictures import manifest

from synthrad.audit.record import (
    GATE,
    RECORD,
    VERSION,
    accepted_reasons,
    known_record,
    looks,
    read_record,
    write_record,
)
from synthrad.errors import InputError
from synthrad.lineage import Fitted, Lineage, project_folder
from synthrad.records import Manifest

SAID = {"identity": "i", "format": VERSION, "rungs": [{"name": "copies", "verdict": "fail"}], "p": 0.1 + 0.2}


def changed(path, **more):
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def drawn(seed, *makers):
    """A set of its own pixels, by generators of these digests; an autoencoder had a part in each."""
    made = manifest(range(3), "train", digest=[f"{seed}{k}" for k in range(3)])
    return Manifest(made.table, replace(made.info, lineage=Lineage((Fitted("autoencoder", f"e{seed}"), *(Fitted("generator", m) for m in makers)))))


def test_what_was_written_is_read_back_whole(tmp_path):
    made = write_record(tmp_path, SAID | {"power": {5: 1.0}})
    assert made == read_record(tmp_path / RECORD) == known_record(tmp_path, "i") == SAID | {"power": {"5": 1.0}, "mac": made["mac"]}
    assert write_record(tmp_path, made) == made  # a seal is not sealed again


def test_a_known_record_is_that_of_the_very_audit_unchanged(tmp_path):
    assert known_record(tmp_path, "i") is None
    write_record(tmp_path, SAID)
    assert known_record(tmp_path, "another") is None and known_record(tmp_path, "i") is not None
    changed(tmp_path / RECORD, rungs=[])
    assert known_record(tmp_path, "i") is None


@pytest.mark.parametrize("change", [{"rungs": []}, {"rungs": [{"name": "copies", "verdict": "pass"}]}, {"p": 0.3}, {"more": 1}, {"mac": None}, {"mac": "é"}, {"mac": ["a"]}])
def test_any_change_by_hand_breaks_the_seal(tmp_path, change):
    write_record(tmp_path, SAID)
    changed(tmp_path / RECORD, **change)
    with pytest.raises(InputError, match="changed since"):
        read_record(tmp_path / RECORD)


def test_a_record_of_another_project_another_version_or_of_none_is_refused(tmp_path, monkeypatch):
    write_record(tmp_path / "a", SAID)
    write_record(tmp_path / "b", SAID | {"format": VERSION - 1})
    with pytest.raises(InputError, match=f"one of format {VERSION}"):
        read_record(tmp_path / "b" / RECORD)
    for text in ("", "[]", '{"identity"'):
        (tmp_path / "torn.json").write_text(text)
        with pytest.raises(InputError, match="no record of an audit"):
            read_record(tmp_path / "torn.json")
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path / "another"))
    assert known_record(tmp_path / "a", "i") is None
    with pytest.raises(InputError, match="another project's key"):
        read_record(tmp_path / "a" / RECORD)


@pytest.mark.parametrize(("gate", "reasons"), [({"identity": "i", "accepted": {"copies": "a phantom"}}, {"copies": "a phantom"}), ({"identity": "older", "accepted": {"copies": "x"}}, {}),
                                               ({"identity": "i"}, {}), ({"identity": "i", "accepted": ["copies"]}, {}), (None, {})])
def test_reasons_are_those_given_at_the_gate_of_this_audit(tmp_path, gate, reasons):
    write_record(tmp_path, SAID)
    if gate is not None:
        (tmp_path / GATE).write_text(json.dumps(gate))
    assert accepted_reasons(tmp_path / RECORD) == reasons


def test_every_set_seed_and_number_of_trials_is_a_look_and_the_same_again_is_none():
    one, two = drawn(1, "a"), drawn(2, "a")
    assert looks(one, drawn(9), 0, 20) == looks(one, drawn(9), 0, 20) == 1
    assert [looks(one, drawn(9), 1, 20), looks(one, drawn(9), 0, 50), looks(two, drawn(9), 0, 20), looks(one, drawn(9), 0, 20)] == [2, 3, 4, 4]
    assert len((project_folder() / "audits.jsonl").read_text().splitlines()) == 4
    assert looks(one, drawn(8), 0, 20) == 5  # the same set beside patients who are split another way


def test_looks_are_counted_a_generator_and_sets_of_nobody_each_by_itself():
    for made, number in ((drawn(1, "a"), 1), (drawn(2, "b"), 1), (drawn(3, "a", "b"), 1), (drawn(4, "b", "a"), 2), (drawn(5, "a"), 2), (drawn(6), 1), (drawn(7), 1)):
        assert looks(made, drawn(9), 0, 20) == number
    assert looks(drawn(6), drawn(9), 1, 20) == 2


def test_a_torn_line_is_passed_over_and_kept_lines_count():
    looks(drawn(1, "a"), drawn(9), 0, 20)
    path = project_folder() / "audits.jsonl"
    path.write_text('{"maker"\n3\n{"maker": ["a"]}\n{"maker": ["a"], "set": ["x"]}\n' + path.read_text())
    before = path.read_text()
    assert looks(drawn(2, "a"), drawn(9), 0, 20) == 4
    assert path.read_text().startswith(before)


def test_a_line_from_before_the_split_was_noted_is_a_look_of_its_own():
    looks(drawn(1, "a"), drawn(9), 0, 20)
    path = project_folder() / "audits.jsonl"
    old = {k: v for k, v in json.loads(path.read_text()).items() if k != "real"}
    path.write_text(json.dumps(old) + "\n")
    assert looks(drawn(1, "a"), drawn(9), 0, 20) == 2 and looks(drawn(1, "a"), drawn(8), 0, 20) == 3
