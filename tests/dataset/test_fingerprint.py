"""Numbers of a set whose facts are known by its making."""

import numpy as np
import pytest
from tiny_set import make

from synthrad.dataset.fingerprint import findings, fingerprint, per_subject
from synthrad.dataset.integrity import inspect


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    made = make(tmp_path_factory.mktemp("fp") / "set", rows=48)
    return made, fingerprint(made, inspect(made))


def test_counts(found):
    made, facts = found
    assert (facts["images"], facts["subjects"]) == (48, 24)
    assert facts["images_per_subject"] == {"median": 2.0, "most": 2}
    assert sum(s["images"] for s in facts["splits"].values()) == 48
    caries = facts["findings"]["caries"]
    assert (caries["positive"], caries["known"], caries["positive_subjects"]) == (24, 48, 24)  # each subject: one with, one without
    implant = facts["findings"]["implant"]
    assert implant["known"] == int((~np.isnan(made.labels[:, 1])).sum())
    assert facts["missing"]["label implant"] == pytest.approx(np.isnan(made.labels[:, 1]).mean())
    assert facts["findings"]["tooth/crown"]["area"]["0.5"] == pytest.approx(100 / 1024)


def test_intensities_are_those_of_all_pixels(found):
    from synthrad.data.images import read_image

    made, facts = found
    pixels = np.stack([read_image(r.channels[0]) for r in made]).ravel()
    told = facts["intensities"]["image"]
    assert told["mean"] == pytest.approx(pixels.mean()) and told["deviation"] == pytest.approx(pixels.std())
    assert told["quantiles"]["0.5"] == pytest.approx(np.median(pixels), abs=1)
    assert told["below"] == told["above"] == 0


def test_pairs_over_chance(found):
    _, facts = found
    pair = next(p for p in facts["together"] if {p["a"], p["b"]} == {"caries", "implant"})
    positive = facts["findings"]["implant"]["positive_subjects"]
    assert pair["subjects"] == positive and pair["expected"] == pytest.approx(positive)  # everybody has caries in one image


def test_a_subject_is_positive_by_any_image():
    values = np.array([0, 1, 0, 0, np.nan, np.nan])
    np.testing.assert_array_equal(per_subject(values, np.array(list("aabbcc"))), [1, 0, np.nan])


def test_uneven_splits_and_doubled_spellings_are_told(found):
    made, _ = found
    splits = made.column("split")
    sexes = np.where(np.arange(48) % 2, "M", " m")
    skewed = made.with_columns({"label:caries": (splits == "test").astype(float), "attribute:sex": sexes})
    facts = fingerprint(skewed, inspect(made))
    assert any(r["finding"] == "caries" and r["split"] == "test" and r["prevalence"] == 1 for r in facts["uneven"])
    assert facts["attributes"]["sex"]["spelled_twice"] == [[" m", "M"]]
    assert not any(r["finding"] == "tooth/crown" for r in facts["uneven"])


def test_a_structure_without_a_mask_is_unknown(found):
    made, _ = found
    unknown = np.isnan(made.column("area:tooth/crown"))
    np.testing.assert_array_equal(np.isnan(findings(made)["tooth/crown"]), unknown)
