"""The command lines of `study export` and `study import-cases`, as their help and docs/outside_nets.md have them."""

import re
import shlex
from pathlib import Path

import pytest

from synthrad.study.command import parser
from synthrad.study.outside_command import VERBS

TEXT = (Path(__file__).parents[2] / "docs/outside_nets.md").read_text()


def commands():
    verbs = next(a for a in parser()._actions if a.choices)
    return {verb: verbs.choices[verb] for verb in VERBS}


def test_commands_of_the_page_are_understood():
    lines = [shlex.split(line) for line in re.findall(r"^synthrad study (.*)$", TEXT, re.M)]
    parsed = [parser().parse_args(line) for line in lines]  # exits on an unknown option
    assert {p.verb for p in parsed} == {*VERBS, "report"} and {p.to for p in parsed if p.verb == "export"} == {"nnunet", "folder"}
    exported = {(p.arm, p.task, p.seed) for p in parsed if p.verb == "export"}
    assert {(p.arm, p.task, p.seed) for p in parsed if p.verb == "import-cases"} == exported
    known = {o for c in commands().values() for o in c._option_string_actions} | {"--verify_dataset_integrity"}
    assert set(re.findall(r"(?<![\w-])(--[a-z][a-z_-]+)", TEXT)) <= known


def test_what_the_page_says_of_nnunet_is_what_is_written():
    from synthrad.study import outside_layouts as layouts

    assert f"-d {layouts.FIRST_ID}" in TEXT and f"nnUNetv2_train {layouts.FIRST_ID} 2d 0" in TEXT and "fold 0" in TEXT
    assert all(name in TEXT for name in (layouts.SPLIT, layouts.TABLE, "splits_final.json", "imagesTs", "labelsTr"))


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_every_argument_and_the_page(verb):
    said = commands()[verb].format_help()
    assert "docs/outside_nets.md" in said and all(a.help for a in commands()[verb]._actions)


def test_required_arguments_are_asked_for(capsys):
    for argv, lacking in ((["export", "s.yaml", "--arm", "a"], "--to, --out"), (["import-cases", "s.yaml", "p", "--arm", "a", "--net", "n"], "--seed")):
        with pytest.raises(SystemExit):
            parser().parse_args(argv)
        assert lacking in capsys.readouterr().err
