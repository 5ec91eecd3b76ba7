"""Strategies as the command line builds them."""

import subprocess
import sys

import pytest
from jsonargparse import ArgumentParser

from synthrad.errors import InputError
from synthrad.fusion import AllOf, ClassBalanced, DuplicateReal, Filter, FusionStrategy, MaskQuality, Matched


class Part:
    def __init__(self, fusion: FusionStrategy | None = None, filter: Filter | None = None):
        self.fusion, self.filter = fusion, filter


def build(*arguments: str) -> Part:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Part, "data")
    return parser.instantiate(parser.parse_args(list(arguments))).data


def test_an_arm_is_one_override():
    arm = build(
        "--data.fusion=Matched", "--data.fusion.ratio=2", "--data.fusion.cells.classes=[caries]"
    ).fusion
    assert isinstance(arm, Matched) and arm.ratio == 2 and arm.cells.classes == ["caries"]


def test_a_control_nests_its_arm():
    arm = build(
        "--data.fusion=DuplicateReal", "--data.fusion.like=ClassBalanced", "--data.fusion.like.cap=3"
    ).fusion
    assert isinstance(arm, DuplicateReal) and isinstance(arm.like, ClassBalanced) and arm.like.cap == 3


def test_filters_nest():
    judge = build(
        '--data.filter={"class_path": "AllOf", "init_args": {"filters": [{"class_path": "MaskQuality"}]}}'
    ).filter
    assert isinstance(judge, AllOf) and isinstance(judge.filters[0], MaskQuality)


@pytest.mark.parametrize(
    "arguments", [["--data.fusion=Mached"], ["--data.fusion=Matched", "--data.fusion.rati=2"]]
)
def test_misspelt_names_are_refused(arguments):
    with pytest.raises(Exception, match="Mached|rati"):
        build(*arguments)


def test_a_bad_value_is_an_input_error_or_carries_its_text():
    with pytest.raises((InputError, ValueError), match="a number of at least 0"):
        build("--data.fusion=Matched", "--data.fusion.ratio=-1")


def test_no_torch_is_imported():
    code = "import sys, synthrad.fusion; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
