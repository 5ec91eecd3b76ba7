"""Phantoms: same seed same bytes, masks fit labels, findings are seen, people differ as they should; dialled sets."""

import numpy as np
import pytest
from PIL import Image

from synthrad.data import phantom_anatomy as anatomy
from synthrad.data.phantom import FINDINGS, PREVALENCE, draw_dialled, draw_phantom, subject_of, write_phantoms
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.lineage import hash_subjects, project_key
from synthrad.records import Manifest

SIZE = (64, 128)
NONE = (0, 0, 0, 0)


@pytest.fixture(scope="module")
def people() -> list[anatomy.Anatomy]:
    return [anatomy.make_anatomy(5, k) for k in range(1500)]


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Manifest:
    return write_phantoms(tmp_path_factory.mktemp("real"), 60, SIZE, seed=3)


def pixels(manifest: Manifest) -> np.ndarray:
    return np.stack([np.asarray(Image.open(r.channels[0])) for r in manifest])


def masks(manifest: Manifest, layer: str) -> np.ndarray:
    k = list(manifest.info.layers).index(layer)
    return np.stack([np.asarray(Image.open(r.masks[k])) for r in manifest])


def test_randomness_comes_from_seed_and_index_alone():
    a, b = draw_phantom(7, 3, SIZE), draw_phantom(7, 3, SIZE)
    assert a.image.tobytes() == b.image.tobytes() and a.labels == b.labels and a.attributes == b.attributes
    assert all(a.masks[k].tobytes() == b.masks[k].tobytes() for k in a.masks)
    assert not np.array_equal(a.image, draw_phantom(7, 4, SIZE).image)
    assert not np.array_equal(a.image, draw_phantom(8, 3, SIZE).image)


@pytest.mark.parametrize("size", [(32, 64), (64, 128), (64, 64), (256, 512), (256, 256), (96, 130)])
def test_any_size_and_aspect(size):
    p = draw_phantom(0, 0, size, (1, 1, 1, 1))
    assert p.image.shape == size and p.image.dtype == np.uint8
    assert set(np.unique(p.masks["abnormality"])) == {0, 1, 2, 3, 4}
    assert 0.08 < (p.masks["tooth"] > 0).mean() < 0.3
    # at another size it is the same patient
    small = draw_phantom(0, 0, SIZE, (1, 1, 1, 1))
    assert (p.masks["tooth"] > 0).mean() == pytest.approx((small.masks["tooth"] > 0).mean(), rel=0.15)


@pytest.mark.parametrize("labels", [tuple(int(b) for b in f"{k:04b}") for k in range(16)])
def test_label_is_one_where_the_mask_has_pixels(labels):
    for index in range(4):
        p = draw_phantom(1, index, SIZE, labels)
        found = set(np.unique(p.masks["abnormality"])) - {0}
        assert found == {k + 1 for k in range(4) if labels[k]} and p.labels == labels


def test_impacted_teeth_are_teeth_and_fdi_numbers_are_right():
    p = draw_phantom(2, 5, (256, 512), (0, 0, 0, 1), tooth_classes="fdi")
    teeth, impacted = p.masks["tooth"], p.masks["abnormality"] == 4
    assert (teeth[impacted] > 0).mean() > 0.95
    ids = {anatomy.FDI[k - 1] for k in np.unique(teeth[impacted]) if k}
    assert ids <= {"18", "28", "38", "48"}
    standing = {t.fdi for t in p.anatomy.teeth if t.state not in ("missing", "implant")}
    assert {anatomy.FDI[k - 1] for k in np.unique(teeth) if k} == standing
    x = {f: np.nonzero(teeth == k + 1)[1].mean() for k, f in enumerate(anatomy.FDI) if (teeth == k + 1).any()}
    right, left = [v for f, v in x.items() if f[0] in "14"], [v for f, v in x.items() if f[0] in "23"]
    assert max(right) < min(left) + 12  # the patient's right is on the picture's left


@pytest.mark.parametrize("finding", ["caries", "deep_caries", "periapical_lesion"])
def test_findings_are_dark_against_the_same_picture_without(finding):
    k = FINDINGS.index(finding)
    inside, outside = [], []
    for index in range(12):
        labels = tuple(int(i == k) for i in range(4))
        w, wo = (draw_phantom(4, index, SIZE, x, "male", 40) for x in (labels, NONE))
        change = w.image.astype(float) - wo.image
        where = w.masks["abnormality"] == k + 1
        inside.append(change[where].mean())
        outside.append(np.abs(change[~where]).mean())
        assert np.array_equal(w.masks["tooth"], wo.masks["tooth"])
    assert np.mean(inside) < -20 and np.mean(outside) < 1


def test_impacted_tooth_is_bright_where_there_was_bone():
    change = []
    for index in range(12):
        w, wo = (draw_phantom(4, index, SIZE, x, "male", 40) for x in ((0, 0, 0, 1), NONE))
        where = (w.masks["abnormality"] == 4) & (wo.masks["tooth"] == 0)
        change.append((w.image.astype(float) - wo.image)[where].mean())
    assert np.mean(change) > 15


def test_prevalence_and_correlation(people):
    labels = np.array([p.person.labels for p in people], dtype=float)
    assert np.abs(labels.mean(axis=0) - PREVALENCE).max() < 0.04
    r = np.corrcoef(labels.T)
    assert r[0, 1] > 0.15 and r[1, 2] > 0.1 and abs(r[0, 3]) < 0.08
    assert (labels.sum(axis=1) == 4).mean() < 0.01
    age = np.array([p.person.age for p in people])
    assert age[labels[:, 3] == 1].mean() < age[labels[:, 3] == 0].mean() - 5


def test_sex_and_age_move_the_anatomy(people):
    def mean(value, keep):
        return np.mean([value(p) for p in people if keep(p.person)])

    def metal(p):
        return sum(t.state in ("filled", "crowned", "root_filled", "implant") for t in p.teeth)

    def width(p):
        return p.jaw.width

    assert mean(width, lambda q: q.sex == "male") > mean(width, lambda q: q.sex == "female") + 0.05
    for value in (
        metal,
        lambda p: p.jaw.bone_loss,
        lambda p: p.jaw.wear,
        lambda p: sum(t.state == "missing" for t in p.teeth),
    ):
        assert mean(value, lambda q: q.age >= 60) > 1.3 * mean(value, lambda q: q.age < 30)


def test_sex_is_seen_in_the_picture():
    """Width of the dental arch in pixels."""
    spans = {}
    for sex in anatomy.SEXES:
        columns = [np.nonzero(draw_phantom(6, k, SIZE, NONE, sex, 30).masks["tooth"])[1] for k in range(15)]
        spans[sex] = np.mean([np.ptp(c) for c in columns])
    assert spans["male"] > spans["female"] + 2


def test_images_of_one_subject_share_the_anatomy_and_not_the_noise():
    pairs = [k for k in range(0, 60, 2) if subject_of(3, k + 1, 1.5) == k]
    assert 12 <= len(pairs) <= 28 and all(subject_of(3, k, 1.0) == k for k in range(20))
    a, b = draw_phantom(3, 0, SIZE), draw_phantom(3, 1, SIZE, subject=0)
    assert a.anatomy.jaw == b.anatomy.jaw and a.labels == b.labels and not np.array_equal(a.image, b.image)


def test_bad_values_are_named():
    for how in ({"size": (16, 64)}, {"labels": (1, 0)}, {"labels": (2, 0, 0, 0)}, {"sex": "m"}, {"seed": -1}):
        with pytest.raises(InputError):
            draw_phantom(**{"seed": 0, "index": 0, "size": SIZE} | how)
    with pytest.raises(InputError, match="images-per-subject"):
        subject_of(0, 0, 3.0)


def test_written_set_is_whole_and_repeats_byte_for_byte(real, tmp_path):
    again = write_phantoms(tmp_path / "again", 60, SIZE, seed=3)
    assert again.digest == real.digest
    assert [r.digest for r in real] == [file_digest(r.channels[0]) for r in real]
    assert set(real.column("split")) == {"train", "val", "audit", "test"}
    assert 1.1 < len(real) / len(set(real.column("subject"))) < 1.5
    present = np.stack([real.column(f"area:abnormality/{f}") > 0 for f in FINDINGS], axis=1)
    assert np.array_equal(present, real.labels == 1)
    teeth = masks(real, "tooth")
    assert np.allclose(real.column("area:tooth/tooth"), (teeth == 1).mean(axis=(1, 2)))
    bands = {r.attributes["age_band"] for r in real}
    assert len(bands) >= 3 and all(16 <= int(r.attributes["age"]) <= 88 for r in real)


def test_a_failed_draw_leaves_the_old_set(real, tmp_path, monkeypatch):
    old = write_phantoms(tmp_path / "set", 8, SIZE, seed=1)
    monkeypatch.setattr("synthrad.data.phantom.draw_phantom", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_phantoms(tmp_path / "set", 8, SIZE, seed=2)
    kept = Manifest.read(tmp_path / "set")
    assert kept.digest == old.digest and all(file_digest(r.channels[0]) == r.digest for r in kept)
    assert not list((tmp_path / "set").glob(".draft*"))


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        write_phantoms(tmp_path, 4, SIZE)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("effect", ["good", "biased", "label_noise", "useless", "copies"])
def test_dialled_rows(real, tmp_path, effect):
    made = draw_dialled(real, tmp_path / effect, 12, effect, seed=3, conditions="uniform")
    assert set(made.column("source")) == {"synthetic"} and set(made.column("split")) == {"train"}
    assert made[7].subject == "synthetic-000007" and len(set(made.column("origin:index"))) == 12
    present = np.stack([made.column(f"area:abnormality/{f}") > 0 for f in FINDINGS], axis=1)
    assert np.array_equal(present, made.labels == 1)
    assert made.info.lineage.fitted[0].kind == "generator" and made.info.lineage.origin == "known"
    assert not set(made.column("digest")) & set(real.column("digest"))
    assert made[0].origin["condition"].startswith("caries=")
    both = real + made
    assert len(both) == 72 and both[-1].masks[0].is_file()
    train = {tuple(v) for v in real.where(split="train").labels}
    assert {tuple(v) for v in made.labels} <= train


def test_good_is_fresh_and_like_real(real, tmp_path):
    made = draw_dialled(real, tmp_path / "good", 40, "good", seed=3)
    train = real.where(split="train")
    assert not made.info.lineage.trained_on()
    assert np.abs(made.labels.mean(axis=0) - train.labels.mean(axis=0)).max() < 0.06
    a, b = pixels(made), pixels(real)
    assert abs(a.mean() - b.mean()) < 4 and abs(a.std() - b.std()) < 4
    flat = np.corrcoef(np.concatenate([a[:20].reshape(20, -1), b[:20].reshape(20, -1)]).astype(float))
    assert flat[:20, 20:].max() < 0.985  # nobody is there twice


def test_uniform_draws_each_combination_equally_often(real, tmp_path):
    combinations = np.unique(real.where(split="train").labels, axis=0)
    made = draw_dialled(real, tmp_path / "u", 3 * len(combinations), "useless", seed=1, conditions="uniform")
    found, times = np.unique(made.labels, axis=0, return_counts=True)
    assert np.array_equal(found, combinations) and set(times) == {3}


def test_copies_copy(real, tmp_path):
    made = draw_dialled(real, tmp_path / "copies", 15, "copies", seed=1)
    train = real.where(split="train")
    by_digest = {r.digest: i for i, r in enumerate(train)}
    rows = [by_digest[r.origin["row"]] for r in made]
    originals = train.take(rows)
    difference = np.abs(pixels(made).astype(int) - pixels(originals))
    assert 0 < difference.mean() and difference.max() <= 4
    for layer in real.info.layers:
        assert np.array_equal(masks(made, layer), masks(originals, layer))
    assert made.info.lineage.trained_on() == hash_subjects(
        real.info.id, train.column("subject"), project_key()
    )
    assert made.info.lineage.fingerprints() == set(train.column("digest"))


def test_label_noise_has_the_rate_asked_for(real, tmp_path):
    made = draw_dialled(real, tmp_path / "noise", 120, "label_noise", seed=1, conditions="uniform", rate=0.3)
    spoilt = made.column("origin:content") != made.column("origin:condition")
    assert 0.3 - 0.13 < spoilt.mean() < 0.3 + 0.13
    good = draw_dialled(real, tmp_path / "good", 120, "good", seed=1, conditions="uniform")
    same = (masks(made, "tooth") == masks(good, "tooth")).all((1, 2))
    assert np.array_equal(same, ~spoilt)  # the spoilt have another patient's teeth
    clean = draw_dialled(real, tmp_path / "clean", 10, "label_noise", seed=1, rate=0.0)
    assert (clean.column("origin:content") == clean.column("origin:condition")).all()


def test_biased_findings_are_bright_under_dark_masks_elsewhere(real, tmp_path):
    good, biased = (
        draw_dialled(real, tmp_path / e, 20, e, seed=2, conditions="uniform") for e in ("good", "biased")
    )
    (teeth, moved), (height, width) = (masks(x, "tooth") for x in (good, biased)), SIZE
    x, y = round(0.11 * width / 2), round(0.08 * height)
    assert np.array_equal(moved[:, y:, x:], teeth[:, : height - y, : width - x]) and not moved[:, :y].any()
    where = (masks(good, "abnormality") > 0) & (masks(good, "abnormality") < 4)
    assert pixels(biased)[where].mean() > pixels(good)[where].mean() + 20
    assert (
        not (where & (masks(biased, "abnormality") == masks(good, "abnormality"))).sum() > 0.35 * where.sum()
    )


def test_useless_pictures_know_nothing_of_their_masks(real, tmp_path):
    made = draw_dialled(real, tmp_path / "useless", 30, "useless", seed=2)
    a, teeth = pixels(made).astype(float), masks(made, "tooth") > 0
    contrast = [x[t].mean() - x[~t].mean() for x, t in zip(a, teeth, strict=True)]
    real_contrast = [
        x[t].mean() - x[~t].mean()
        for x, t in zip(pixels(real).astype(float), masks(real, "tooth") > 0, strict=True)
    ]
    assert abs(np.mean(contrast)) < 0.3 * np.mean(real_contrast)


def test_dialled_refusals(real, tmp_path):
    with pytest.raises(InputError, match="--synthetic"):
        draw_dialled(real, tmp_path / "x", 3, "great", seed=0)
    with pytest.raises(InputError, match="folder of the real images"):
        draw_dialled(real, real.info.roots["here"], 3, "good", seed=0)
    with pytest.raises(InputError, match="no real training row"):
        draw_dialled(real.where(split="test"), tmp_path / "x", 3, "good", seed=0)
    other = Manifest(
        real.table.drop(columns=["label:caries"]),
        type(real.info)(**{**vars(real.info), "classes": FINDINGS[1:]}),
    )
    with pytest.raises(InputError, match="a set of phantoms"):
        draw_dialled(other, tmp_path / "x", 3, "good", seed=0)
    assert len(draw_dialled(other, tmp_path / "copies", 3, "copies", seed=0)) == 3
