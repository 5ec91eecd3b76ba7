"""External test sets, and synthetic sets made under another project's key."""

import hmac
from dataclasses import replace

import pytest
from tiny_set import make

from synthrad.datamodules.fusion import FusionDataModule
from synthrad.errors import InputError
from synthrad.fusion import Matched
from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key, pseudonym
from synthrad.records import Manifest


def opened(folder, **options):
    data = FusionDataModule(str(folder / "real"), size=(32, 32), external={"site": str(folder / "site")}, **options)
    data.setup("test")
    return data


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """A real set and an external one whose rows are all of split test."""
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path))
    make(tmp_path / "real")
    site = make(tmp_path / "site", seed=3, name="site")
    Manifest(site.table.assign(split="test"), site.info).write(tmp_path / "site")
    return tmp_path


def test_an_external_set_of_training_images_is_refused(sets):
    assert [n for n, _ in opened(sets).test_manifests] == ["", "site"]
    for split in ("train", "val"):
        make(sets / f"copy {split}")  # the very images of the real set
        table = Manifest.read(sets / f"copy {split}")
        table = Manifest(table.where(split=split).table.assign(split="test"), table.info)
        table.write(sets / f"copy {split}")
        with pytest.raises(InputError, match=f"byte for byte in split {split}"):
            FusionDataModule(str(sets / "real"), size=(32, 32), external=[str(sets / f"copy {split}")]).setup("test")


def test_other_images_of_training_patients_are_refused_where_both_sets_have_one_id(sets):
    real, site = Manifest.read(sets / "real"), Manifest.read(sets / "site")
    for split in ("train", "val"):
        people = real.where(split=split).column("subject")
        Manifest(site.table.assign(subject=[people[0], *(f"stranger{i}" for i in range(len(site) - 1))]), replace(site.info, id=real.info.id)).write(sets / "site")
        with pytest.raises(InputError, match=f"1 subjects that are in split {split}.*same id"):
            opened(sets)
        stands = pseudonym(real.info.id, people[0], project_key())
        for form in (stands, hmac.new(project_key(), f"{real.info.id}\0{people[0]}".encode(), "sha256").hexdigest()[:32]):  # the second of older versions
            Manifest(site.table.assign(subject=[form] * len(site)), replace(site.info, id=real.info.id)).write(sets / "site")
            with pytest.raises(InputError, match=f"1 subjects that are in split {split}"):
                opened(sets)
    Manifest(site.table.assign(subject=[f"stranger{i}" for i in range(len(site))]), replace(site.info, id=real.info.id)).write(sets / "site")
    opened(sets)


def test_a_generator_that_saw_the_external_subjects_is_refused(sets):
    site = Manifest.read(sets / "site")
    seen = hash_subjects("site", site.column("subject"), project_key())
    for k, part in enumerate((Fitted("generator", trained_on=seen), Fitted("generator"))):
        make(sets / f"made{k}", 20, "synthetic", 5, lineage=Lineage((part,)))
        if not k:
            with pytest.raises(InputError, match="site.*meets the test split"):
                opened(sets, synthetic=str(sets / "made0"))
        else:
            opened(sets, synthetic=str(sets / "made1"))


def test_another_projects_key_is_told_and_the_origin_is_unknown(sets, recwarn):
    mine = Lineage((Fitted("generator", key_id=key_id(project_key())),))
    made = make(sets / "made", 20, "synthetic", 5, lineage=mine)
    data = FusionDataModule(str(sets / "real"), str(sets / "made"), Matched(), (32, 32))
    assert data._pool().info.lineage.origin == "known" and not [w for w in recwarn if "key" in str(w.message)]
    other = Lineage((replace(mine.fitted[0], key_id=key_id(b"another")),))
    Manifest(made.table, replace(made.info, lineage=other)).write(sets / "made")
    with pytest.warns(UserWarning, match="another project's key"):
        assert data._pool().info.lineage.origin == "unknown"


def test_an_external_set_of_the_same_patients_under_another_name_is_refused(sets):
    for mine, theirs, meets in (("brats2021", "brats2020", True), ("chexpert", "chexpert_plus_512", True), ("chexpert", "nih", False)):
        for folder, name in (("real", mine), ("site", theirs)):
            told = Manifest.read(sets / folder)
            Manifest(told.table, replace(told.info, id=name)).write(sets / folder)
        if meets:
            with pytest.raises(InputError, match="shares patients"):
                opened(sets)
        else:
            opened(sets)
