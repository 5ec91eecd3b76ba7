"""Gate: hostile configs of fit and filter, from files, flags, standard input and the net: no foreign code is imported or run.

Short form: tests/test_hostile_configs.py.
"""

import pytest
from forks import forks
from test_hostile_configs import sprung

pytestmark = [pytest.mark.gate, forks]


def test_configs(tmp_path, tally):
    tally("Hostile configs", *sprung(tmp_path))
