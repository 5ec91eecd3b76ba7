import copy

import pytest
from tiny_set import make

from synthrad.config_links import digests_of, facts_of, link, plain_tree
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.records import Manifest


@pytest.fixture
def facts(tmp_path):
    make(tmp_path / "real")
    return facts_of(str(tmp_path / "real"))


def test_a_nets_counts_follow_the_data(facts):
    model = {"init_args": {"layers": None, "net": {"init_args": {"in_channels": 7, "out_channels": 7}}}}
    link(model, facts)
    assert model["init_args"] == {"layers": {"tooth": ["crown", "root"]}, "net": {"init_args": {"in_channels": 1, "out_channels": 3}}}
    model = {"init_args": {"classes": ["implant"], "net": {"init_args": {"num_classes": None, "classes": None}}}}
    link(model, facts)  # the config's own choice of classes stands
    assert model["init_args"] == {"classes": ["implant"], "net": {"init_args": {"num_classes": 1, "classes": ["implant"]}}}


@pytest.mark.parametrize("model", [{}, {"init_args": {"lr": 1}}, {"init_args": {"net": None}}, {"init_args": {"net": {"init_args": {"width": 8}}}}])
def test_what_asks_for_nothing_stays(facts, model):
    before = copy.deepcopy(model)
    link(model, facts)
    assert model == before


def test_facts_of_no_manifest(tmp_path):
    with pytest.raises(InputError, match="no dataset.yaml"):
        facts_of(str(tmp_path))


def test_digests_follow_rows_and_not_places(tmp_path):
    real = make(tmp_path / "real")
    own = {"manifest": str(tmp_path / "real"), "synthetic": None, "external": {"there": str(tmp_path / "none")}}
    before = digests_of(own)
    assert set(before) == {str(tmp_path / "real"), str(tmp_path / "none")}
    Manifest(real.table, DatasetInfo(**{**real.info.__dict__, "roots": {**real.info.roots, "more": "/elsewhere"}})).write(tmp_path / "real")
    assert digests_of(own) == before
    real.take(range(len(real) - 1)).write(tmp_path / "real")
    assert digests_of(own)[str(tmp_path / "real")] != before[str(tmp_path / "real")]


def test_a_config_becomes_the_same_text_every_time(tmp_path):
    assert plain_tree({"b": (1, tmp_path), "a": None}) == {"a": None, "b": [1, str(tmp_path)]}
    assert list(plain_tree({"b": 1, "a": 2})) == ["a", "b"]
