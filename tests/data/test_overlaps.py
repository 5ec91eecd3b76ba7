import pytest

from synthrad.data.overlaps import ALIASES, OVERLAPS, corpus_of, meeting, sources_of


@pytest.mark.parametrize(("name", "corpus"), [
    ("CheXpert_256", "chexpert"), ("chexpert-small", "chexpert"), ("NIH ChestX-ray14", "nih-chestxray14"), ("nih_chest_64", "nih-chestxray14"),
    ("BraTS2020", "brats-2020"), ("mimic-cxr-jpg", "mimic-cxr"), ("RSNA pneumonia", "rsna-pneumonia"), ("covidx", "covidx"),
    ("mine", ""), ("rsna-without-nih-test", ""), ("", ""), ("phantom-0-300-64x128", ""),
])  # fmt: skip
def test_names(name, corpus):
    assert corpus_of(name) == corpus


def test_the_table_is_sound():
    assert {o.holder for o in OVERLAPS} | {o.source for o in OVERLAPS} <= set(ALIASES)
    assert all(corpus_of(c) == c for c in ALIASES)
    names = [n for known in ALIASES.values() for n in known]
    assert len(names) == len(set(names)) and all(o.said_by and o.what for o in OVERLAPS)


def test_every_row_has_a_source_and_what_nobody_has_read_there_says_so():
    for row in OVERLAPS:
        assert "http" in row.said_by and len(row.said_by.split("http")[0]) > 5  # a title and an address
        assert ("unverified" in str(row)) != row.verified
    assert "unverified" in meeting("ieee8023-covid", "pmc-15m") and "unverified" not in meeting("rsna-pneumonia", "nih-chestxray14")
    assert [str(o) for o in OVERLAPS if not o.verified] and len({(o.holder, o.source) for o in OVERLAPS}) == len(OVERLAPS)


@pytest.mark.parametrize(("one", "other"), [
    ("rsna-pneumonia", "nih-chestxray14"), ("siim-acr-pneumothorax", "rsna-pneumonia"), ("brats-2021", "brats-2020"), ("brats-2021", "brats-2019"),
    ("chexpert", "chexpert-plus"), ("covidx", "ieee8023-covid"), ("covidx", "nih-chestxray14"), ("pmc-15m", "ieee8023-covid"), ("dentex", "dentex"),
])  # fmt: skip
def test_sets_that_meet(one, other):
    assert meeting(one, other) and bool(meeting(other, one))


def test_sets_that_do_not():
    assert not meeting("chexpert", "nih-chestxray14") and not meeting("", "") and not meeting("dentex", "") and not meeting("padchest", "vindr-cxr")
    assert "10.1148/ryai.2019180041" in meeting("rsna-pneumonia", "nih-chestxray14")
    assert list(sources_of("siim-acr-pneumothorax")) == ["siim-acr-pneumothorax", "nih-chestxray14"]
