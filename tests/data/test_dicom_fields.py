import numpy as np
import pytest
from tiny_dicom import SECRET, dataset

from synthrad.data.dicom_fields import number, text
from synthrad.errors import InputError


@pytest.fixture
def header():
    return dataset(np.zeros((2, 2), np.uint8), WindowCenter=[3, 4], WindowWidth="", ViewPosition="PA ")


def test_numbers(header):
    assert number(header, "WindowCenter", "f") == 3 and number(header, "WindowWidth", "f") is None
    assert number(header, "RescaleSlope", "f") is None
    with pytest.raises(InputError, match="f: found a PatientName that is no number") as e:
        number(header, "PatientName", "f")
    assert SECRET not in str(e.value)


def test_texts(header):
    assert text(header, "ViewPosition") == "PA" and text(header, "WindowCenter") == "3.0" and text(header, "PatientSex") == ""
    assert text(None, "PatientSex") == ""  # what cannot be read is not there
