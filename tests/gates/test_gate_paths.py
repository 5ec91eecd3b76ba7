"""Gate: hostile paths in tables, annotations and manifests: nothing outside the root is opened (audit hook), read or written.

DICOM trees: tests/gates/test_gate_dicom.py. Short form: tests/test_hostile_paths.py.
"""

import pytest
from forks import forks
from test_hostile_paths import PLACES, escapes

pytestmark = [pytest.mark.gate, forks]


@pytest.mark.parametrize("place", PLACES)
def test_paths(tmp_path, tally, place):
    tally("Hostile paths", *escapes(place, tmp_path))
