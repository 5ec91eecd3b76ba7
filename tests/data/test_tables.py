import pandas as pd
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


def test_rows_keep_the_lines_of_the_file(tmp_path):
    (tmp_path / "a.csv").write_text('\nimage,note\n\na.png,"two\nlines"\r\n\nb.png,x\n')
    table = read_table(tmp_path / "a.csv")
    assert list(table.index + 2) == [4, 7] and table["note"].to_list() == ["two\nlines", "x"]


def test_names_lose_their_blanks_and_nameless_columns_go(tmp_path):
    (tmp_path / "a.csv").write_text(", image ,x,\n0,a.png,1,\n")
    assert list(read_table(tmp_path / "a.csv").columns) == ["image", "x"]
    pd.DataFrame({" image ": ["a.png"]}, index=[7]).to_parquet(tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    assert list(table.columns) == ["image"] and list(table.index) == [0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty file"),
        ("\n\n", "an empty file"),
        ("image,x\na.png,1\nb.png,1,2\nc.png\n", "row 3, found 3 cells, expected 2"),
        ('image,x\na.png,"1\n', "line 2 that cannot be read"),
    ],
)
def test_spoilt_files_say_what_and_where(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=words) as e:
        read_table(tmp_path / "a.csv")
    assert "UTF-8" not in str(e.value)


def test_another_encoding_is_told(tmp_path):
    (tmp_path / "a.csv").write_bytes("image,Größe\na.png,1\n".encode("cp1252"))
    with pytest.raises(InputError, match="save it as UTF-8 CSV"):
        read_table(tmp_path / "a.csv")
