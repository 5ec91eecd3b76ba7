import numpy as np
import pandas as pd
import pytest

from synthrad.data.conditions import complete, to_condition, with_prompts
from synthrad.data.prompts import Prompt
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError

CLASSES = ("pleural_effusion", "pneumothorax")
INFO = DatasetInfo("chest", "chest", classes=CLASSES, layers={}, attributes=("sex", "view", "report"))
NAN = float("nan")


@pytest.mark.parametrize(("labels", "attributes", "written"), [
    ([1, 1], {"sex": "F", "view": "frontal"}, "pleural effusion, pneumothorax, frontal, female"),
    ([0, 1], {"sex": "", "view": "frontal"}, "pneumothorax, frontal"),
    ([0, 0], {"sex": "M"}, "no finding, M"),
    ([0, NAN], {}, ""),  # one is not known: neither named nor denied
    ([NAN, 1], {"sex": "F"}, "pneumothorax, female"),
])
def test_a_prompt_names_what_is_known(labels, attributes, written):
    assert Prompt("{findings}, {view}, {sex}", {"F": "female"}).write(labels, CLASSES, attributes) == written


def test_a_report_is_read_as_it_stands_and_no_class_makes_no_claim():
    assert Prompt("{report}").write([1, 0], CLASSES, {"report": "Large pneumothorax,  left"}) == "Large pneumothorax, left"
    assert Prompt("a radiograph, {findings}").write([], (), {}) == "a radiograph"


@pytest.mark.parametrize(("template", "words"), [
    ("a radiograph", "expected a template with one of {findings}, {sex}"), ("{finding}, {sex}", "did you mean findings"),
    ("{findings}, {age}", "found {age}"),
])
def test_templates_that_name_nothing_are_refused(template, words):
    with pytest.raises(InputError) as e:
        Prompt(template).check(INFO.attributes, "data.prompt")
    assert words in str(e.value) and "data.prompt" in str(e.value)


def test_conditions_get_prompts_where_they_have_none():
    spec = {"prompt": {"template": "{findings}, {view}", "words": {}}, "untaught": ["pleural_effusion"],
            "attributes": {"view": ["frontal", "lateral"]}}
    table = pd.DataFrame({"label:pneumothorax": [1.0, 1.0, NAN], "label:pleural_effusion": [1.0, 0.0, 1.0],
                          "attribute:view": ["frontal", "", "lateral"], "text": ["", "a tube", ""]})
    made = with_prompts(table, spec, INFO, "last.ckpt")
    assert list(made["text"]) == ["pneumothorax, frontal", "a tube", "lateral"]
    whole = complete(made, INFO)
    assert to_condition(whole, INFO).text == list(made["text"]) and np.isnan(to_condition(whole, INFO).labels[2, 1])
    assert with_prompts(table.drop(columns="text"), {}, INFO, "last.ckpt").equals(table.drop(columns="text"))
    with pytest.raises(InputError, match="conditions: text.*last.ckpt, which reads none"):
        with_prompts(table, {}, INFO, "last.ckpt")


def test_prompts_of_one_class_of_rare_values_and_of_reports():
    info = DatasetInfo("chest", "chest", classes=("pneumothorax",), layers={}, attributes=("view", "report"))
    spec = {"prompt": {"template": "{findings}, {view}, {report}", "words": {}}, "attributes": {"view": ["frontal", "lateral"]}}
    table = pd.DataFrame({"label:pneumothorax": [1.0, 0.0], "attribute:view": ["frontal", "oblique"], "attribute:report": ["", "a tube"]})
    made = with_prompts(table, spec, info, "last.ckpt")  # oblique, rare in the data, was never written
    assert list(made["text"]) == ["pneumothorax, frontal", "no finding, a tube"]
    few = {**spec, "untaught": ["effusion"]}
    both = DatasetInfo("chest", "chest", classes=("effusion", "pneumothorax"), layers={}, attributes=("view", "report"))
    assert list(with_prompts(table.assign(**{"label:effusion": 1.0}), few, both, "x")["text"])[1] == "no finding, a tube"
