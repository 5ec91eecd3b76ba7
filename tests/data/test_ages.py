import pytest

from synthrad.data.ages import parse_age


def test_ages_with_and_without_units():
    assert [parse_age(t) for t in ("58", "058Y", "62.0", "0", "")] == [58, 58, 62, 0, None]
    assert parse_age("011M") == pytest.approx(11 / 12) and parse_age("003W") == pytest.approx(21 / 365.25)
    assert parse_age("120Y") == 120


@pytest.mark.parametrize("text", ["414", "121Y", "-3", "old", "58y", "Y", "nan", "1e2"])
def test_what_is_no_age_is_refused(text):
    with pytest.raises(ValueError):
        parse_age(text)
