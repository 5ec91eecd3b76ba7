import pytest

from synthrad import config_names, fusion
from synthrad.config_names import KINDS, known_classes


def test_every_strategy_is_known_by_its_bare_name():
    strategies = {n for n in fusion.__all__ if isinstance(getattr(fusion, n), type)
                  and issubclass(getattr(fusion, n), fusion.FusionStrategy) and n != "FusionStrategy"}
    assert strategies <= set(known_classes(KINDS["fusion"]))
    assert "FusionStrategy" not in known_classes(KINDS["fusion"])


@pytest.mark.parametrize("text", ["1e-3", "[1, 2]", "{a: 1.5}", "yes", "null", "2020-01-01", "word", "-", "a: b"])
def test_plain_values_of_flags_are_read_as_before(text):
    assert config_names._plain_yaml(text) == config_names._jsonargparse_yaml(text)
