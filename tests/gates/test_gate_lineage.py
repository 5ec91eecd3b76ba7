"""Gate: 50 synthetic sets whose lineage is edited, absent or touches held-out patients are refused by the datamodule, and 50 clean ones are not.

Short forms: tests/datamodules/test_fusion.py, tests/datamodules/test_external.py, tests/test_records.py.
"""

import hashlib
import warnings
from dataclasses import replace

import pytest
import yaml
from tiny_set import make

from synthrad.datamodules.fusion import FusionDataModule
from synthrad.errors import InputError
from synthrad.fusion import Matched
from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key
from synthrad.records import Manifest

pytestmark = pytest.mark.gate
KINDS = ("generator", "autoencoder", "base of a ControlNet", "text_encoder", "judge")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A folder with a real set, another real set with the same patients' names, and a synthetic set that each case writes anew."""
    folder = tmp_path_factory.mktemp("lineage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        make(folder / "real")
        make(folder / "twin", seed=9, name="twin")
        make(folder / "made", 20, "synthetic", 5)
    return folder


def part(real, rows, kind="generator", **more):
    """A fitted thing that saw these rows."""
    held = real.where(**rows)
    return Fitted(kind, trained_on=hash_subjects(real.info.id, held.column("subject"), project_key()), fingerprints=frozenset(held.column("digest")),
                  key_id=key_id(project_key()), datasets=frozenset({real.info.id}), **more)


def clean(real):
    return part(real, {"split": "train"})


def refused(folder):
    """What the datamodule says of the synthetic set; "" where it takes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            FusionDataModule(str(folder / "real"), str(folder / "made"), Matched(), (32, 32)).setup("fit")
        except InputError as e:
            return str(e)
    return ""


def write(folder, *parts, settings=None):
    made = Manifest.read(folder / "made")
    Manifest(made.table, replace(made.info, lineage=Lineage(parts, settings or {}))).write(folder / "made")


def edit(folder, change):
    """Change dataset.yaml behind the project's back."""
    path = folder / "made" / "dataset.yaml"
    meta = yaml.safe_load(path.read_text())
    change(meta)
    path.write_text(yaml.safe_dump(meta, sort_keys=False))


def rows_edited(meta, folder):
    path = folder / "made" / "manifest.csv"
    path.write_text(path.read_text().replace("synthetic3", "synthetic9"))
    meta["digest"] = hashlib.sha256(path.read_bytes()).hexdigest()


def violations(folder, real):
    """(what, a function that writes it): 24 + 6 + 6 touch held-out patients, 14 are edited or absent."""
    train = clean(real)
    for split in ("val", "audit", "test"):
        rows = {"split": split}
        for kind in KINDS:  # the generator itself, and what it was made from
            yield f"{kind} saw {split}", lambda rows=rows, kind=kind: write(folder, part(real, rows, kind), train)
        bare = part(real, rows)
        yield f"{split}, no fingerprints", lambda p=bare: write(folder, replace(p, fingerprints=frozenset()))
        yield f"{split}, fingerprints alone", lambda p=bare: write(folder, train, replace(p, trained_on=frozenset(), datasets=frozenset()))
        one = frozenset(sorted(bare.trained_on)[:1])
        yield f"one patient of {split} through two ancestors", lambda p=bare, one=one: write(
            folder, replace(p, kind="weights", trained_on=one, fingerprints=frozenset()), part(real, {"split": "train"}, "autoencoder"), train)
    for split in ("audit", "test"):
        for kind in ("generator", "judge", "autoencoder"):
            held = hash_subjects(real.info.id, real.where(split=split).column("subject"), project_key())
            yield f"{kind} selected on {split}", lambda held=held, kind=kind: write(folder, replace(train, kind=kind, trained_on=frozenset(), selected_on=held))
    for mine, theirs in (("rsna_pneumonia", "nih_chest_64"), ("siim-acr", "rsna"), ("brats2021", "brats2020"), ("chexpert_plus", "CheXpert"),
                         ("covidx", "ieee8023"), ("nih", "chestx-det10")):
        yield f"{theirs} from {mine}", lambda mine=mine, theirs=theirs: (
            Manifest(real.table, replace(real.info, id=theirs)).write(folder / "real"), write(folder, replace(train, datasets=frozenset({mine}))))
    leaky = (part(real, {"split": "test"}), train)
    for what, change in {
        "a part removed": lambda m: m["lineage"]["fitted"].pop(0),
        "subjects removed": lambda m: m["lineage"]["fitted"][0].update(trained_on=[], fingerprints=[]),
        "one subject removed": lambda m: (m["lineage"]["fitted"][0]["trained_on"].pop(), m["lineage"]["fitted"][1]["trained_on"].pop()),
        "origin": lambda m: m["lineage"]["fitted"][0].update(origin="unknown"),
        "key": lambda m: m["lineage"]["fitted"][0].update(key_id="0" * 12, trained_on=[]),
        "dataset": lambda m: m["lineage"]["fitted"][0].update(datasets=["elsewhere"]),
        "settings": lambda m: m["lineage"]["settings"].update(seed=7),
        "id": lambda m: m.update(id="another"),
        "seal of other words": lambda m: m.update(seal=m["seal"][:-1] + ("0" if m["seal"][-1] != "0" else "1")),
        "seal removed": lambda m: (m.pop("seal"), m["lineage"]["fitted"].pop(0)),
        "seal of another project": lambda m: (m.update(seal=f"{'0' * 12}:{'0' * 64}"), m["lineage"]["fitted"].pop(0)),
        "lineage removed": lambda m: m.pop("lineage"),
        "lineage and seal removed": lambda m: (m.pop("lineage"), m.pop("seal")),
        "rows": lambda m: rows_edited(m, folder),
    }.items():
        yield f"edited: {what}", lambda change=change: (write(folder, *leaky), edit(folder, change))


def accepted(folder, real, twin):
    """(what, a function that writes it): 50 sets that nothing can be said against."""
    train = clean(real)
    for kind in KINDS:
        yield f"{kind}, train", lambda kind=kind: write(folder, replace(train, kind=kind))
        yield f"{kind} and a generator", lambda kind=kind: write(folder, replace(train, kind=kind, digest="a"), train)
    for split in ("train", "val", "audit", "test"):  # the same names of patients in another dataset
        for kind in KINDS:
            yield f"{kind}, {split} of another dataset", lambda split=split, kind=kind: write(folder, part(twin, {"split": split}, kind), train)
    val = hash_subjects(real.info.id, real.where(split="val").column("subject"), project_key())
    for kind in KINDS:
        yield f"{kind} selected on val", lambda kind=kind: write(folder, replace(train, kind=kind, selected_on=val))
    for origin in ("unknown", "declared"):
        for kind in KINDS:
            yield f"{kind} of origin {origin}", lambda origin=origin, kind=kind: write(folder, Fitted(kind, origin=origin))
    for other in ("chexpert", "padchest", "vindr", "mine", "dentex"):
        yield f"nih from {other}", lambda other=other: (Manifest(real.table, replace(real.info, id="nih")).write(folder / "real"),
                                                         write(folder, Fitted("generator", datasets=frozenset({other}))))


def test_lineage(sets, monkeypatch, tally):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(sets))
    real, twin, lost = Manifest.read(sets / "real"), Manifest.read(sets / "twin"), {}
    assert set(real.column("subject")) == set(twin.column("subject"))
    for wanted, cases in ((True, list(violations(sets, real))), (False, list(accepted(sets, real, twin)))):
        lost[wanted] = []
        for what, plant in cases:
            real.write(sets / "real")
            edit(sets, lambda m: m.update(lineage={}) or m.pop("seal", None))
            plant()
            said = refused(sets)
            if bool(said) != wanted:
                lost[wanted].append(f"{what}: {said or 'accepted'}")
        assert len(cases) == 50, len(cases)
    tally("Lineage: violations refused", 50, lost[True])
    tally("Lineage: clean sets accepted", 50, lost[False])
