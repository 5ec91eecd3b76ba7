import pytest

from synthrad import fusion
from synthrad.errors import InputError
from synthrad.study.arm_strategies import build_cells, build_strategy
from synthrad.study.description import Arm


def test_a_strategy_takes_its_own_arguments_and_the_cells_of_the_study():
    made = build_strategy(Arm(strategy="Matched", args={"ratio": 2}), {"classes": ["caries"]}, "s.yaml: arms.matched")
    assert isinstance(made, fusion.Matched) and made.ratio == 2 and list(made.cells.classes) == ["caries"]
    own = build_strategy(Arm(strategy="Matched", args={"cells": {"classes": ["implant"]}}), {"classes": ["caries"]}, "s.yaml: arms.matched")
    assert list(own.cells.classes) == ["implant"]


@pytest.mark.parametrize(("arm", "said"), [
    ({"strategy": "Matchd"}, "arms.a.strategy: found 'Matchd'.*did you mean Matched"),
    ({"strategy": "FusionStrategy"}, "arms.a.strategy"),
    ({"strategy": "Matched", "args": {"ratioo": 2}}, "arms.a.args.ratioo: found an unknown key.*did you mean ratio"),
    ({"strategy": "Matched", "args": {"ratio": -1}}, "arms.a.args: .*ratio"),
])  # fmt: skip
def test_what_is_no_strategy_names_the_arm(arm, said):
    with pytest.raises(InputError, match=f"(?s){said}"):
        build_strategy(Arm(**arm), {}, "arms.a")


def test_cells_of_other_keys_or_values():
    assert isinstance(build_cells({}, "cells"), fusion.Cells)
    with pytest.raises(InputError, match="cells.classses: found an unknown key.*\n.*did you mean classes"):
        build_cells({"classses": ["caries"]}, "cells")
    with pytest.raises(InputError, match="cells.classes"):
        build_cells({"classes": 3}, "cells")
