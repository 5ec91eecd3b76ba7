"""Gate: 30 identifiers planted in file names, folders, text chunks, EXIF, comments and tables are in nothing that prepare, fit, sample and
score leave: images, manifests, logs, event files, checkpoints. Short form: tests/test_canaries.py; DICOM: tests/gates/test_gate_dicom.py.
"""

import pytest
from canaries import CANARIES
from test_canaries import made_of

pytestmark = pytest.mark.gate


def test_identifiers(tmp_path, monkeypatch, tally):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path / "project"))
    tally("Identifiers in outputs", len(CANARIES), made_of(tmp_path))
