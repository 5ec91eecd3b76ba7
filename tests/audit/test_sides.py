"""Who is compared with whom: members whom the lineage names, patients that nothing has seen, and the pixels that the manifests name."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_set import make

from synthrad.audit.sides import LARGEST, banner, read_sides, seen_subjects, strangers
from synthrad.data.images import files_digest
from synthrad.dataset_info import HERE
from synthrad.errors import InputError
from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key
from synthrad.records import Manifest


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """24 real images (12 train, 4 of each other split, two a patient) and 8 synthetic ones, 32 pixels a side."""
    folder = tmp_path_factory.mktemp("sides")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        return make(folder / "real"), make(folder / "drawn", 8, "synthetic", seed=5)


def people(real, split):
    return list(dict.fromkeys(real.where(split=split).column("subject")))


def made_by(drawn, real, trained=None, selected=(), **more):
    """The set with the lineage of a generator that saw these patients; None = all of the training split."""
    hashes = lambda subjects: hash_subjects(real.info.id, subjects, project_key())  # noqa: E731
    maker = Fitted("generator", "a" * 64, trained_on=hashes(people(real, "train") if trained is None else trained), selected_on=hashes(selected),
                   **{"key_id": key_id(project_key()), **more})
    return told(drawn, maker)


def told(drawn, *fitted):
    return Manifest(drawn.table, replace(drawn.info, lineage=Lineage(fitted)))


def pixels(manifest):
    return torch.stack([torch.from_numpy(np.asarray(Image.open(r.channels[0])) / np.float32(127.5) - 1)[None] for r in manifest])


def altered(manifest, change, row=0, **columns):
    table = manifest.table.copy()
    for name, value in columns.items():
        table.loc[table.index[row], name] = value
    return Manifest(table, replace(manifest.info, **change))


def test_training_patients_stand_beside_test_patients_and_the_rest_is_apart(sets):
    real, drawn = sets
    sides = read_sides(made_by(drawn, real), real)
    assert list(sides.rows.column("split")) == list(np.where(sides.member, "train", "test")) and sides.member.sum() == 12 and len(sides.rows) == 16
    assert list(sides.subjects) == list(sides.rows.column("subject")) and sides.banner == ""
    assert torch.allclose(sides.real, pixels(sides.rows), atol=1e-6) and torch.allclose(sides.synthetic, pixels(drawn), atol=1e-6)
    assert set(sides.other_rows.column("split")) == {"val", "audit"} and torch.allclose(sides.other, pixels(sides.other_rows), atol=1e-6)
    assert set(sides.witnesses.rows.column("split")) == {"audit"} and len(sides.witnesses.images) == 4


def test_masks_are_the_foreground_of_rows_that_have_one(sets):
    real, drawn = sets
    sides = read_sides(made_by(drawn, real), real)
    assert list(sides.synthetic_with_masks) == list(range(8)) and list(sides.with_masks) == [k for k, r in enumerate(sides.rows) if r.masks[0]] != list(range(16))
    assert [k for k, r in enumerate(sides.witnesses.rows) if r.masks[0]] == list(sides.witnesses.with_masks)
    for rows, at, masks in ((sides.rows, sides.with_masks, sides.real_masks), (drawn, np.arange(8), sides.masks),
                            (sides.witnesses.rows, sides.witnesses.with_masks, sides.witnesses.masks)):
        drawn_masks = np.stack([np.asarray(Image.open(rows[int(k)].masks[0])) for k in at])
        assert drawn_masks.max() == 2 and np.array_equal(masks[:, 0].numpy(), np.where(drawn_masks > 0, 1, -1))


def test_masks_of_one_side_only_are_none(sets):
    real, drawn = sets
    bare = made_by(Manifest(drawn.table.assign(**{"mask:tooth": ""}), drawn.info), real)
    sides = read_sides(bare, real)
    assert sides.masks is None and sides.real_masks is None
    unlike = made_by(Manifest(drawn.table, replace(drawn.info, layers={"tooth": ("crown", "pulp")})), real)  # the same name means something else
    sides = read_sides(unlike, real)
    assert sides.masks is None and sides.real_masks is None and len(sides.with_masks) == 0


def test_a_layer_is_found_by_its_name_and_a_row_needs_every_layer(sets):
    real, drawn = sets
    empty = "masks/none.png"
    for each in sets:
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(Path(each.info.roots[HERE]) / empty)
    more = {"bone": ("jaw",)}
    two = Manifest(real.table.assign(**{"mask:bone": empty, "area:bone/jaw": 0.0}), replace(real.info, layers={**more, **real.info.layers}))
    two = two.with_columns({"mask_digest": [files_digest(r.masks) for r in two]})
    plain, both = read_sides(made_by(drawn, real), real), read_sides(made_by(drawn, real), two)
    assert both.real_masks.shape[1] == 1 and torch.equal(both.real_masks, plain.real_masks)
    made = Manifest(drawn.table.assign(**{"mask:bone": empty, "area:bone/jaw": 0.0}), replace(drawn.info, layers={**drawn.info.layers, **more}))
    made = altered(made, {}, 3, **{"mask:bone": ""})
    made = made.with_columns({"mask_digest": [files_digest(r.masks) for r in made]})
    sides = read_sides(made_by(made, real), two)
    assert list(sides.synthetic_with_masks) == [0, 1, 2, 4, 5, 6, 7] and sides.masks.shape[1] == sides.real_masks.shape[1] == 2
    assert (sides.masks[:, 1] == -1).all() and (sides.masks[:, 0] == 1).any() and (sides.real_masks[:, 1] == -1).all()  # in the set's order


def test_members_are_whom_the_lineage_names_and_all_where_nobody_can_check(sets):
    real, drawn = sets
    few = people(real, "train")[:2]
    sides = read_sides(made_by(drawn, real, few), real)
    assert set(sides.subjects[sides.member]) == set(few) and (~sides.member).sum() == 4
    named = lambda made: set(real.column("subject")[seen_subjects(made.info.lineage, real)])  # noqa: E731
    everyone = set(real.column("subject"))
    assert named(made_by(drawn, real, few)) == set(few) and named(made_by(drawn, real, [])) == everyone == named(told(drawn))
    for doubt in ({"origin": "declared"}, {"origin": "unknown"}, {"key_id": key_id(b"another")}):
        assert named(made_by(drawn, real, few, **doubt)) == everyone


def test_who_had_a_part_in_the_set_is_no_stranger(sets):
    real, drawn = sets
    val, audit = people(real, "val"), people(real, "audit")
    known = real.where(split="audit").column("digest")[-1]  # of an image of the second audit patient
    made = made_by(drawn, real, selected=val[:1], fingerprints=frozenset([known]))
    sides = read_sides(made, real)
    assert set(sides.other_rows.column("subject")) == {val[1], *audit} and len(sides.other_rows) == len(sides.other) == 5
    assert list(sides.witnesses.rows.column("subject")) == [audit[0], audit[0], audit[1]] and len(sides.witnesses.images) == 3
    assert not strangers(made_by(drawn, real, selected=val).info.lineage, real)[real.column("split") != "audit"].all()
    nobody = read_sides(made_by(drawn, real, selected=[*val, *audit]), real)
    assert nobody.other is None and nobody.witnesses is None and len(nobody.other_rows) == 0


def test_synthetic_rows_of_the_real_manifest_take_no_part(sets):
    real, drawn = sets
    source = np.array(["real"] * 24, object)
    source[[0, 14, 18, 23]] = "synthetic"  # train, audit, val, test
    sides = read_sides(made_by(drawn, real), real.with_columns({"source": list(source)}))
    assert len(sides.rows) == 14 and len(sides.other_rows) == 6 and len(sides.witnesses.rows) == 3


def test_what_the_lineage_does_not_say_is_told(sets):
    real, drawn = sets
    said = lambda made: banner(made.info.lineage, real)  # noqa: E731
    train = people(real, "train")
    assert said(made_by(drawn, real)) == said(made_by(drawn, real, train[:1])) == ""
    assert "names nobody" in said(told(drawn)) and "names nobody" in said(made_by(drawn, real, []))
    assert "is declared" in said(told(drawn, Fitted("generator", "", "declared"))) and "is declared" in said(made_by(drawn, real, origin="declared"))
    assert "is unknown" in said(made_by(drawn, real, key_id=key_id(b"another")))
    assert said(made_by(drawn, real, [*train, "another"])).startswith("1 patients who were trained on are not in the training split")


@pytest.mark.parametrize(("change", "words"), [
    (lambda drawn, real: (drawn.take([]), real), "a set without images"),
    (lambda drawn, real: (drawn + real.take([0]), real), "real images in the set"),
    (lambda drawn, real: (altered(drawn, {"resize": "squeeze"}), real), "resize of"),
    (lambda drawn, real: (Manifest(drawn.table.rename(columns={"channel:image": "channel:T1"}), replace(drawn.info, channels=("T1",))), real), "channels of"),
    (lambda drawn, real: (drawn, real.where(split="train")), "no real images in the split 'test'"),
    (lambda drawn, real: (drawn, real.take(np.flatnonzero(real.column("split") != "train"))), "training patients that this set has never seen"),
    (lambda drawn, real: (told(drawn), real.take(np.flatnonzero(real.column("split") != "train"))), "no real images in the split 'train'"),
    (lambda drawn, real: (made_by(drawn, real, ["another"]), real), "training patients that this set has never seen"),
    (lambda drawn, real: (made_by(drawn, real, [*people(real, "train"), *people(real, "test")[:1]]), real), "[0-9]+ test patients that made this set"),
    (lambda drawn, real: (made_by(drawn, real, selected=people(real, "test")), real), "[0-9]+ test patients that made this set"),
    (lambda drawn, real: (made_by(drawn, real, fingerprints=frozenset(real.where(split="test").column("digest")[:1])), real), "images of test patients that made this set"),
    (lambda drawn, real: (altered(drawn, {}, 4, digest=""), real), "no digest of it in the manifest of SYNTHETIC"),
    (lambda drawn, real: (altered(drawn, {}, 4, mask_digest=""), real), "no digest of it in the manifest of SYNTHETIC"),
    (lambda drawn, real: (altered(drawn, {}, 4, digest="f" * 64), real), "a file that has changed"),
    (lambda drawn, real: (altered(drawn, {}, 4, mask_digest="f" * 64), real), "a file that has changed"),
    *((lambda drawn, real, k=k: (drawn, altered(real, {}, k, digest="")), "no digest of it in the manifest of --real") for k in (0, 13, 17, 22)),  # of each split
    *((lambda drawn, real, k=k: (drawn, altered(real, {}, k, digest="f" * 64)), "a file that has changed") for k in (0, 13, 17, 22)),
])
def test_sets_that_do_not_belong_together_are_refused(sets, change, words):
    real, drawn = sets
    with pytest.raises(InputError, match=words):
        read_sides(*change(made_by(drawn, real), real))


def resized(folder, manifest, *sizes):
    """A copy with its images at these sizes, (wide, high)."""
    shutil.copytree(manifest.info.roots[HERE], folder)
    made = Manifest(manifest.table, replace(manifest.info, roots={HERE: str(folder)})).take(range(len(sizes)))
    for row, size in zip(made, sizes, strict=True):
        for path in (*row.channels, *row.masks):
            Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)
    return made.with_columns({"digest": [files_digest(r.channels) for r in made], "mask_digest": [files_digest(r.masks) for r in made]})


@pytest.mark.parametrize(("size", "compared"), [((300, 200), (LARGEST, 192)), ((200, 300), (192, LARGEST)), ((48, 40), (40, 48)), ((16, 40), (40, 16))])
def test_all_are_compared_at_the_size_of_the_set_and_no_larger_than_is_needed(sets, tmp_path, size, compared):
    real, drawn = sets
    sides = read_sides(made_by(resized(tmp_path / "set", drawn, size, size), real), real)
    assert sides.synthetic.shape[2:] == sides.real.shape[2:] == sides.masks.shape[2:] == sides.real_masks.shape[2:] == sides.other.shape[2:] == compared


@pytest.mark.parametrize(("sizes", "words"), [(((32, 32), (40, 32)), "32 x 40 pixels.*32 x 32, as the first"), (((15, 40),), "images of 40 x 15 pixels.*at least 16")])
def test_odd_and_tiny_sizes_are_refused(sets, tmp_path, sizes, words):
    real, drawn = sets
    with pytest.raises(InputError, match=words):
        read_sides(made_by(resized(tmp_path / "set", drawn, *sizes), real), real)
