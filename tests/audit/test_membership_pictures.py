"""Real rows as a generator was told of its own training images: what it was never taught, it is not told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_set import make

from synthrad.audit.membership_pictures import masked_rows, read_pictures
from synthrad.data.images import files_digest, fit
from synthrad.dataset_info import HERE
from synthrad.records import Manifest

PROMPT = {"template": "{findings}, {sex}", "words": {"m": "male", "f": "female"}}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Squares of 32 pixels, some without a mask; caries in every other, sex with it; implant unknown in some."""
    folder = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        return make(folder / "real", 14)


def spec(**more):
    return {"layers": ["tooth"], "size": [32, 32], "attributes": {"sex": ["f", "m"]}} | more


def asked(real, **more):
    rows = real.take(np.flatnonzero(masked_rows(real, spec(**more))))
    return rows, read_pictures(rows, spec(**more), "a.ckpt")


def test_rows_have_a_mask_of_every_layer_of_the_generator(real):
    two = Manifest(real.table.assign(**{"mask:bone": [""] * 3 + ["masks/0.png"] * 11}), replace(real.info, layers={**real.info.layers, "bone": ("jaw",)}))
    assert list(np.flatnonzero(~masked_rows(two, spec()))) == [4, 9] and list(np.flatnonzero(~masked_rows(two, spec(layers=["tooth", "bone"])))) == [0, 1, 2, 4, 9]
    assert masked_rows(two, spec(layers=[])).all() and len(masked_rows(two, spec(layers=[]))) == 14


@pytest.mark.parametrize("size", [(32, 32), (16, 24)])
def test_pictures_and_masks_are_those_of_the_files_at_the_generators_size(real, size):
    rows, found = asked(real, size=list(size))
    image = lambda path, nearest: fit(np.asarray(Image.open(path)), size, real.info.resize, nearest)  # noqa: E731
    assert len(found) == len(rows) == 12 and found.case.image.shape == (12, 1, *size)
    whole = image(rows[3].channels[0], False) / 127.5 - 1
    if size == (32, 32):
        assert torch.allclose(found.case.image[3, 0], torch.from_numpy(whole).float(), atol=1e-5)
    assert np.array_equal(found.case.masks[3, 0], image(rows[3].masks[0], True)) and torch.equal(found.condition.masks, found.case.masks)
    assert found.case.masks.dtype == torch.int64 and found.case.index.tolist() == list(range(12))


def test_a_layer_is_found_by_its_name(real):
    Image.fromarray(np.full((32, 32), 1, np.uint8)).save(Path(real.info.roots[HERE]) / "masks" / "jaw.png")
    two = Manifest(real.table.assign(**{"mask:bone": "masks/jaw.png", "area:bone/jaw": 1.0}), replace(real.info, layers={"bone": ("jaw",), **real.info.layers}))
    two = two.with_columns({"mask_digest": [files_digest(r.masks) for r in two]})
    assert torch.equal(asked(two)[1].case.masks, asked(real)[1].case.masks)
    both = asked(two, layers=["tooth", "bone"])[1].case.masks
    assert torch.equal(both[:, :1], asked(real)[1].case.masks) and (both[:, 1] == 1).all()
    assert asked(real, layers=[])[1].case.masks.shape == (14, 0, 32, 32)


def test_labels_that_were_never_taught_and_findings_that_nobody_had_are_unknown(real):
    rows, found = asked(real)
    known = rows.labels
    assert np.array_equal(found.condition.labels, known, equal_nan=True) and np.isnan(known).any()
    hidden = asked(real, untaught=["implant"], absent=["caries"])[1].condition.labels
    assert np.isnan(hidden[:, 1]).all() and np.array_equal(hidden[:, 0], np.where(known[:, 0] == 1, np.nan, known[:, 0]), equal_nan=True)
    assert np.array_equal(asked(real, untaught=["implant"], absent=["caries"])[1].case.labels, hidden, equal_nan=True)
    assert np.array_equal(rows.labels, known, equal_nan=True)  # the manifest keeps what it knew


def test_values_of_attributes_are_told_as_far_as_they_were_taught(real):
    rows, found = asked(real)
    sexes = list(rows.column("attribute:sex"))
    assert [a["sex"] for a in found.condition.attributes] == sexes and found.case.attributes.tolist() == [[float(s == "f"), float(s == "m")] for s in sexes]
    _, some = asked(real, attributes={"sex": ["m"]})
    assert [a["sex"] for a in some.condition.attributes] == [s if s == "m" else "" for s in sexes] and some.case.attributes.tolist() == [[float(s == "m")] for s in sexes]
    _, none = asked(real, attributes={})
    assert none.condition.attributes == [{}] * 12 and none.case.attributes.shape == (12, 0)


def test_prompts_say_what_labels_say_and_nothing_that_the_generator_never_read(real):
    """A finding that no training image had would set test patients apart by its word alone."""
    rows, found = asked(real)
    assert found.condition.text is None
    given = Manifest(rows.table.assign(text="a report that was left in the table"), rows.info)
    assert read_pictures(given, spec(), "a.ckpt").condition.text is None
    text = read_pictures(given, spec(prompt=PROMPT), "a.ckpt").condition.text
    words = [", ".join(c for c, v in zip(rows.info.classes, row, strict=True) if v == 1) or ("no finding" if (row == 0).all() else "") for row in rows.labels]
    assert text == [", ".join(filter(None, (w, {"m": "male", "f": "female"}[s]))) for w, s in zip(words, rows.column("attribute:sex"), strict=True)] and "caries, female" in text
    assert not [t for t in asked(real, prompt=PROMPT, absent=["caries"])[1].condition.text if "caries" in t]
    assert not [t for t in asked(real, prompt=PROMPT, untaught=["caries"])[1].condition.text if "caries" in t]
