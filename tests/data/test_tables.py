import pytest

from synthrad.data.tables import read_table
from synthrad.errors import InputError


def test_tables_with_other_separators_and_none(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffimage;x\na.png;NA\n", encoding="utf-8")
    assert read_table(tmp_path / "a.csv").to_dict("records") == [{"image": "a.png", "x": "NA"}]
    for text in ("", "image\n"):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(InputError, match=r"a\.csv"):
            read_table(tmp_path / "a.csv")
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "none.csv")
