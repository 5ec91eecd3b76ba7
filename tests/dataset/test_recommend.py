"""Sizes, cells and arms that follow from a set's facts, and a study file that the study's own reader takes."""

from pathlib import Path

import numpy as np
import pytest
from tiny_set import make

import synthrad
from synthrad.dataset.fingerprint import fingerprint
from synthrad.dataset.integrity import inspect
from synthrad.dataset.recommend import _size, recommend


@pytest.fixture(scope="module")
def advised(tmp_path_factory):
    made = make(tmp_path_factory.mktemp("advice") / "set", rows=96)
    found = fingerprint(made, inspect(made))
    return made, found, recommend(made, found)


def test_arms_are_those_that_add_rows(advised):
    made, _, advice = advised
    train = len(made.where(split="train"))
    assert advice.arms["matched"][0] == train and advice.arms["synthetic_only"][0] == train
    assert advice.study["cells"]["classes"] == ["caries"]
    assert any(line.startswith("not balanced: implant (fewer than 10 training subjects") for line in advice.reasons)
    assert set(advice.study["arms"]) == {n for n, (rows, _) in advice.arms.items() if rows} | {"real_only"}


def test_the_study_is_one_that_the_study_reader_takes(advised, tmp_path):
    import yaml

    from synthrad.study.study_file import load_study

    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(dict(advised[2].study)))
    study = load_study(path)
    assert study.size == advised[2].size and study.endpoint.metric == "dice"
    for source in study.sources.values():
        assert (Path(synthrad.__file__).parents[1] / source.generator).is_file()


@pytest.mark.parametrize(("stored", "area", "expected"), [
    ((512, 512), 0.1, (64, 64)),  # large structures: the smallest size does
    ((512, 512), 0.0005, (256, 256)),  # 0.0005 * 256^2 = 33 pixels, at 128 only 8
    ((100, 200), 0.0005, (64, 128)),  # no more than what is stored
    ((300, 600), 0.0005, (128, 256)),
    ((600, 300), 0.0005, (256, 128)),
])
def test_size_follows_the_smallest_structure(stored, area, expected):
    height, width = stored
    found = {"sizes": {"aspect": {"median": width / height}, "height": {"median": height}, "width": {"median": width}},
             "findings": {"a/b": {"area": {"0.1": area}}}}
    assert _size(found)[0] == expected


def test_cautions_name_what_is_too_small(advised):
    made, _, _ = advised
    few = made.take(np.flatnonzero(made.column("split") != "test"))
    found = fingerprint(few, inspect(few))
    cautions = "\n".join(recommend(few, found).cautions)
    assert "no subject in test" in cautions and "0 test subjects: no interval" in cautions and "audit of synthetic images says `not tested`" in cautions
