"""YAML and JSON of strangers: plain data or one message."""

import os

import pytest
import yaml

from synthrad import documents
from synthrad.documents import UnsafeYAML, check_yaml, parse_yaml, read_json, read_json_lines, read_yaml
from synthrad.errors import InputError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


def test_yaml_gives_each_key_once(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb: 2\na: 3\n")
    with pytest.raises(InputError, match=r"a.yaml, line 3: found the key 'a' again, first on line 1"):
        read_yaml(path, "letters")
    path.write_text("a: [")
    with pytest.raises(InputError, match="expected letters"):
        read_yaml(path, "letters")


@pytest.mark.parametrize("text", ["", "# nothing", "a: 1\nb: [1, 2.5, yes, ~]\n", "- &x {k: v}\n- *x\n- {<<: *x, l: w}\n", "é: 2020-01-02"])
def test_plain_yaml_reads_as_pyyaml_reads_it(text):
    assert parse_yaml(text, "text", "data") == yaml.safe_load(text)


@pytest.mark.parametrize(("text", "words"), [
    (BOMB, "repeat more than"), ("<<: " + BOMB, "no YAML"), ("[" * 200 + "]" * 200, "levels"), ("a: " * 5, "no YAML"),
    ("x: !!python/object/apply:os.system [true]", "the tag"), ("x: !!timestamp 1", "the tag"), ("&a [*a]", "inside what it names"),
    ("day: 2020-13-45", "no YAML"), ("n: " + "9" * 5000, "no YAML"), ("\x00", "no YAML"), ("*b", "no YAML"),
])  # fmt: skip
def test_yaml_that_asks_for_more(text, words):
    with pytest.raises(InputError, match=words):
        parse_yaml(text, "text", "data")


def test_a_bomb_is_small_and_refused_before_it_is_built():
    assert len(BOMB) < 500 and len(yaml.safe_load(BOMB)) == 9  # safe_load takes it
    with pytest.raises(UnsafeYAML):
        check_yaml(BOMB)


def test_many_plain_values_are_no_bomb():
    assert len(parse_yaml("[" + "1, " * 50_000 + "1]", "text", "data")) == 50_001


@pytest.mark.parametrize(("text", "words"), [
    (b"{", "no JSON"), (b"[" * 100_000, "too deep"), (b'{"a": NaN}', "NaN"), (b"[1, -Infinity]", "Infinity"), (b"\xff\xfe", "no UTF-8"),
    (b"9" * 5000, "no JSON"), (b"", "no JSON"),
])  # fmt: skip
def test_what_is_no_json(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(InputError, match=words) as told:
        read_json(path, "annotations")
    assert "a.json" in str(told.value)
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, "x"]}')
    assert read_json(path, "annotations") == {"a": [1, "x"]}


def test_neither_pipes_nor_giants_are_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no regular file"):
        read_json(tmp_path / "pipe", "annotations")
    with pytest.raises(InputError, match="no such file"):
        read_yaml(tmp_path / "none", "annotations")
    (tmp_path / "a").write_text("[1, 2, 3]")
    monkeypatch.setattr(documents, "MOST_BYTES", 5)
    assert read_json(tmp_path / "a", "annotations", largest=9) == [1, 2, 3]
    with pytest.raises(InputError, match="9 bytes; expected at most 5"):
        read_yaml(tmp_path / "a", "annotations")


def test_lines_of_json(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n[2]\r\n')
    assert list(read_json_lines(path, "labels")) == [(1, {"a": 1}), (3, [2])]
    for line, words in ((b"{", "no JSON"), (b"[" * 100_000, "too deep"), (b'{"a": NaN}', "NaN"), (b"\xff", "no UTF-8"), (b"9" * 5000, "no JSON")):
        path.write_bytes(b"1\n" + line + b"\n3\n")
        with pytest.raises(InputError, match=words) as told:
            list(read_json_lines(path, "labels"))
        assert "a.json, line 2" in str(told.value)
    monkeypatch.setattr(documents, "MOST_BYTES", 4)
    with pytest.raises(InputError, match="at most 4"):
        next(read_json_lines(path, "labels"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no regular file"):
        next(read_json_lines(tmp_path / "pipe", "labels"))
