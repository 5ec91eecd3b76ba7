"""Gate: 1,600 mutated PNG, JPEG, CSV, JSON and YAML files: no crash, none over 2 s or 512 MB, each refusal names file and reason; a changed
picture of a set with digests is never taken. DICOM and NIfTI: tests/gates/test_gate_dicom.py, test_gate_nifti.py. Short form, and files
that swell: tests/test_hostile_files.py.
"""

import pytest
from forks import forks
from test_hostile_files import KINDS, changed, tried

pytestmark = [pytest.mark.gate, forks]
NUMBER = {"PNG": 350, "JPEG": 250, "JPEG, progressive": 100, "CSV": 300, "JSON": 300, "YAML, filter": 120, "YAML, dataset": 120, "YAML, study": 60}


@pytest.mark.parametrize("kind", KINDS)
def test_mutants(tmp_path, tally, kind):
    tally("Mutated files", NUMBER[kind], tried(kind, tmp_path / "set", NUMBER[kind]))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "mask"])
def test_changes_behind_a_digest(tmp_path, tally, kind):
    tally("Changed pictures of a set with digests", 500, changed(tmp_path / "set", kind, 500))
