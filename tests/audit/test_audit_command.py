"""`synthrad audit` as a user types it, on phantoms that a clean or a leaking maker drew."""

import json
from pathlib import Path

import pytest

from synthrad.__main__ import main
from synthrad.audit import copying
from synthrad.data.phantom import write_phantoms
from synthrad.data.phantom_dialled import draw_dialled
from synthrad.metrics.copies import Moves
from synthrad.records import Manifest

FEW = Moves(degrees=(-5.0, 0.0, 5.0), scales=(0.9, 1.0, 1.1), shift=0.07, coarse=24, fine=32, refined=2)
RUNGS = ["copies/images", "copies/features", "copies/masks", "re-identification", "membership", "attributes"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        real = write_phantoms("real", 110, (32, 48), 0)
        good, copied = draw_dialled(real, "good", 60, "good", 7), draw_dialled(real, "copied", 60, "copies", 7)
        mixed = good[:57] + copied[:3]
        mixed.write(folder / "mixed")
    return folder


@pytest.fixture(autouse=True)
def there(sets, monkeypatch):
    monkeypatch.chdir(sets)
    monkeypatch.setattr(copying.copy_rungs, "__defaults__", (*copying.copy_rungs.__defaults__[:-1], FEW))


def record(name):
    return json.loads(Path("out", name, "audit.json").read_text())


def test_a_clean_set_fails_no_rung_and_is_not_let_through_untested(capsys):
    assert main(["audit", "good", "--real", "real", "--out", "out/good", "--trials", "20"]) == 0
    said = capsys.readouterr().out
    found = {r["name"]: r for r in record("good")["rungs"]}
    assert list(found) == RUNGS and not any(r["verdict"] == "fail" for r in found.values())
    assert found["copies/images"]["power"]["exact"]["5"] == found["copies/masks"]["power"]["exact"]["5"] == 1
    assert found["membership"]["verdict"] == "not tested" and "anonymous" not in said
    assert {f.name for f in Path("out/good").iterdir()} == {"audit.json", "copies.png", "pairs.png"}
    assert main(["audit", "good", "--real", "real", "--out", "out/good", "--trials", "20", "--gate"]) == 1
    said = capsys.readouterr()
    assert "audited already" in said.out and "membership: not tested" in said.err
    reasons = [f"--accept={name}=a phantom" for name in RUNGS]  # a search as coarse as the test's is inconclusive
    assert main(["audit", "good", "--real", "real", "--out", "out/good", "--trials", "20", "--gate", *reasons]) == 0
    gate = json.loads(Path("out/good/gate.json").read_text())
    assert gate["accepted"]["membership"] == "a phantom" and gate["set_digest"] == Manifest.read("good").digest


def test_a_set_with_one_in_twenty_copied_is_stopped_and_they_are_named(capsys):
    assert main(["audit", "mixed", "--real", "real", "--out", "out/mixed", "--trials", "20", "--gate"]) == 1
    said = capsys.readouterr()
    images = next(r for r in record("mixed")["rungs"] if r["name"] == "copies/images")
    assert images["verdict"] == "fail" and "copies/images: fail" in said.err
    mixed, real = Manifest.read("mixed"), Manifest.read("real")
    of_digest = {r.digest: r for r in real}
    for row in list(mixed)[57:]:
        source = of_digest[row.origin["content"]] if row.origin.get("content") in of_digest else of_digest[row.origin["row"]]
        pair = next(m for m in images["facts"]["matches"] if m["synthetic_row"] >= 57 and m["subject"] == source.subject)
        assert pair["similarity"] > 0.98 and f"training patient {source.subject}" in said.out
    assert record("mixed")["looks"] >= 1


def test_a_draw_that_was_filtered_is_audited_beside_what_was_kept(capsys):
    assert main(["audit", "good", "--real", "real", "--out", "out/both", "--unfiltered", "mixed", "--trials", "20"]) == 0
    verdicts = {r["name"]: r["verdict"] for r in record("both")["rungs"]}
    assert verdicts["copies/images of the whole draw"] == "fail" and verdicts["copies/images"] != "fail"


@pytest.mark.parametrize(("argv", "words"), [
    (["real", "--real", "real"], "real images in the set"), (["good", "--real", "good"], "no real images in the split"),
    (["good", "--real", "real", "--trials", "2"], "--trials: found 2"), (["good", "--real", "real", "--accept", "a=b"], "add --gate"),
    (["nowhere", "--real", "real"], "nowhere"),
])
def test_bad_input_is_one_message(argv, words, capsys):
    assert main(["audit", *argv, "--out", "out/bad"]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
