"""CLAIM: what it says follows from the run, and what nobody knows is left to the authors."""

from described import SPEC, compared

from synthrad.study.audits import SetAudit
from synthrad.study.claim import ITEMS, claim, table
from synthrad.study.description import Study
from synthrad.study.flow import Flow

FLOW = Flow((18, 17), {"train": (12, 11), "test": (6, 6)}, [], [], (6, 6), 6, [(2, "test images", "no mask")])


def items(**more):
    study = Study.model_validate(SPEC | more)
    return {i.number: i for i in claim(study, FLOW, compared(), [SetAudit("gan", 0, "x")], {"dataset": "real", "licence": "CC0"}, {"torch": "2"}, (), "abcd")}


def test_claim_has_all_items_of_2024_and_leaves_to_the_authors_what_they_know():
    found = items()
    assert list(found) == list(range(1, 45)) == list(ITEMS)
    assert {n for n, i in found.items() if i.state == "authors"} == {1, 2, 3, 5, 10, 11, 13, 14, 15, 16, 17, 18, 34, 41, 44}
    assert all(("the authors must say" in i.answer) == (i.state != "filled") for i in found.values())
    assert len(table(list(found.values())).rows) == 44


def test_claim_answers_follow_from_the_artefacts():
    found = items()
    assert "18 images of 17 patients" in found[8].answer and "2 test images (no mask)" in found[8].answer
    assert "gan was not audited" in found[43].answer and found[33].answer == "None." and "one net a task" in found[30].answer
    two = {"t": {**SPEC["tasks"]["t"], "nets": {n: {"class_path": "SmpNet", "init_args": {"weights": "w"}} for n in ("unet", "b")}}}
    assert "several nets a task" in items(tasks=two)[30].answer and "weights = w" in items(tasks=two)[24].answer
