from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from tiny_set import make

from synthrad.datamodules import fusion
from synthrad.datamodules.fusion import FusionDataModule
from synthrad.errors import InputError
from synthrad.fusion import AugmentedReal, Matched
from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key, pseudonym
from synthrad.records import Manifest


def opened(folder, **options):
    data = FusionDataModule(str(folder / "real"), size=(32, 32), batch_size=4, steps=10, **options)
    data.setup("fit")
    return data


def draws(data, batches, skip=0):
    loader = data.train_dataloader()
    loader.done = skip
    return [b for b, _ in zip(loader, range(batches), strict=False)]


def test_no_worker_count_and_no_resume_changes_a_batch(tmp_path):
    make(tmp_path / "real")
    one = draws(opened(tmp_path), 6)
    two = draws(opened(tmp_path, num_workers=2), 6)
    resumed = draws(opened(tmp_path), 2, skip=4)
    assert all(torch.equal(a.image, b.image) and torch.equal(a.masks, b.masks) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a.image, b.image) for a, b in zip(one[4:], resumed, strict=True))
    rows = torch.cat([b.index for b in one[:3]])
    assert sorted(rows.tolist()) == list(range(12))  # an epoch holds each row once
    assert {int(m) for m in one[0].masks.unique()} <= {-1, 0, 1, 2}


def test_every_other_split_is_real(tmp_path):
    make(tmp_path / "real")
    make(tmp_path / "made", 20, "synthetic", 5)
    with pytest.warns(UserWarning, match="lineage unknown"):
        data = opened(tmp_path, synthetic=str(tmp_path / "made"), fusion=Matched(ratio=1))
    data.setup("test")
    assert (data.train.column("source") == "synthetic").sum() == 12
    for held in (data._data["val"].manifest, *(m for _, m in data.test_manifests)):
        assert set(held.column("source")) == {"real"}
    read = Manifest.read(tmp_path / "real")
    table = read.table
    table.loc[table["split"] == "val", "source"] = "synthetic"
    Manifest(table, read.info).write(tmp_path / "real")
    with pytest.raises(InputError, match="real images only"):
        opened(tmp_path)


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


def test_real_pairs_are_moved_as_the_row_says(tmp_path, monkeypatch):
    make(tmp_path / "real")
    cases = opened(tmp_path, fusion=AugmentedReal(like=Matched(ratio=0.5), how="affine"))._data["train"]
    seen = []
    monkeypatch.setattr(fusion, "move_pair", lambda image, masks, how, seed, layers: seen.append((how, seed)) or (image, masks))
    for i in range(len(cases)):
        cases[(i, 0)]
    assert seen == [("affine", s) for s in cases.augment if s is not None] and len(seen) == 6


def test_strong_augmentation_is_fixed_by_the_row(tmp_path):
    make(tmp_path / "real")
    data = opened(tmp_path, fusion=AugmentedReal(like=Matched(ratio=0.5)))
    cases = data._data["train"]
    rows = [i for i, seed in enumerate(cases.augment) if seed is not None]
    assert len(rows) == 6
    assert torch.equal(cases[(rows[0], 3)].image, cases[(rows[0], 3)].image)
    assert not np.allclose(cases[(rows[0], 3)].image, cases[(rows[0], 4)].image)
    strong = [cases[(i, 3)].image for i in rows]
    for i in rows:
        cases.augment[i] = None
    light = [cases[(i, 3)].image for i in rows]  # the same light draw of the same rows without it
    assert not any(np.allclose(a, b, atol=1e-3) for a, b in zip(strong, light, strict=True))
