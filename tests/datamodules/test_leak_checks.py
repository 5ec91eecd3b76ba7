"""What must not meet in one fit. External test sets: test_external.py; copies whose pixels were changed: tests/study/test_other_sets.py."""

from dataclasses import replace

import pytest
import yaml
from tiny_set import make

from synthrad.datamodules.fusion import FusionDataModule
from synthrad.errors import InputError
from synthrad.fusion import Matched
from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key, pseudonym
from synthrad.records import Manifest


def opened(folder, **options):
    data = FusionDataModule(str(folder / "real"), size=(32, 32), batch_size=4, steps=10, **options)
    data.setup("fit")
    return data


@pytest.mark.parametrize("split", ["val", "audit", "test"])
@pytest.mark.parametrize("how", ["subject", "selected", "fingerprint"])
def test_leaks_are_refused(tmp_path, split, how):
    real = make(tmp_path / "real")
    held = real.where(split=split)
    hashes = hash_subjects(real.info.id, held.column("subject"), project_key())
    part = {
        "subject": Fitted("generator", trained_on=hashes),
        "selected": Fitted("generator", selected_on=hashes),
        "fingerprint": Fitted("generator", fingerprints=frozenset(held.column("digest"))),
    }[how]
    make(tmp_path / "made", 20, "synthetic", 5, lineage=Lineage((part,)))
    if how == "selected" and split == "val":
        opened(tmp_path, synthetic=str(tmp_path / "made"), fusion=Matched())
        return
    with pytest.raises(InputError, match=f"meets the {split} split"):
        opened(tmp_path, synthetic=str(tmp_path / "made"), fusion=Matched())


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("form", ["named", "older"])
def test_a_pseudonymised_copy_meets_what_was_trained_on_the_names(tmp_path, split, form):
    """The same dataset id with another split: new files, new digests, only subjects can tell."""
    real, key = make(tmp_path / "real"), project_key()
    people = hash_subjects(real.info.id, real.where(split=split).column("subject"), key)
    if form == "older":
        people = frozenset({"0" * 32})
    part = Fitted("generator", origin="declared", trained_on=people, datasets=frozenset({real.info.id}))
    make(tmp_path / "made", 20, "synthetic", 5, lineage=Lineage((part,)))
    stands = [pseudonym(real.info.id, s, key) for s in real.column("subject")]
    Manifest(real.table.assign(subject=stands), real.info).write(tmp_path / "real")
    with pytest.raises(InputError, match=f"meets the {split} split" if form == "named" else "form of an older version"):
        opened(tmp_path, synthetic=str(tmp_path / "made"), fusion=Matched())


def test_a_set_of_another_dataset_that_shares_patients_is_refused(tmp_path):
    real = make(tmp_path / "real")
    Manifest(real.table, replace(real.info, id="nih_chest_64")).write(tmp_path / "real")
    for other, wanted in (("rsna_pneumonia", "shares patients.*10.1148/ryai.2019180041"), ("chexpert", ""), ("rsna without nih", "")):
        made = make(tmp_path / other, 20, "synthetic", 5, lineage=Lineage((Fitted("generator", datasets=frozenset({other})),)))
        assert made.info.lineage.datasets() == {other}
        if wanted:
            with pytest.raises(InputError, match=wanted):
                opened(tmp_path, synthetic=str(tmp_path / other), fusion=Matched())
        else:
            opened(tmp_path, synthetic=str(tmp_path / other), fusion=Matched())


@pytest.mark.parametrize("how", ["absent", "unsealed", "edited"])
def test_edited_and_absent_lineages_are_refused(tmp_path, how):
    make(tmp_path / "real")
    part = Fitted("generator", key_id=key_id(project_key()), trained_on=frozenset({"0" * 32}))
    make(tmp_path / "made", 20, "synthetic", 5, lineage=Lineage((part,)))
    opened(tmp_path, synthetic=str(tmp_path / "made"), fusion=Matched())
    path = tmp_path / "made" / "dataset.yaml"
    meta = yaml.safe_load(path.read_text())
    meta["lineage"]["fitted"][0]["trained_on"] = []
    if how != "edited":
        del meta["seal"]
    if how == "absent":
        meta["lineage"] = {}
    path.write_text(yaml.safe_dump(meta))
    wanted = {"absent": "without a lineage", "unsealed": "without this project's seal", "edited": "differ from what this project sealed"}[how]
    with pytest.raises(InputError, match=wanted):
        opened(tmp_path, synthetic=str(tmp_path / "made"), fusion=Matched())
