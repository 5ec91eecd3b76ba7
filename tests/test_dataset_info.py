import pytest
from bare_manifest import edited
from tiny_set import make as tiny

from synthrad.errors import InputError
from synthrad.records import Manifest


@pytest.mark.parametrize(("changes", "words"), [
    ({"roots": {"here": "/"}}, "the folder itself"), ({"roots": {}}, "the folder itself"), ({"roots": {"here": 3}}, "roots"),
    ({"layers": {"../../x": ["a"]}}, "without slashes"), ({"layers": {"tooth": ["crown", "ro\not"]}}, "structure"), ({"channels": [".."]}, "channel"),
    ({"classes": ["a\0b"]}, "class"), ({"classes": [1]}, "class"), ({"layers": 3}, "DatasetInfo"), ({"intensity": {"low": 3, "high": 2}}, "intensity"), ({"intensity": {"low": 0, "high": 10**400}}, "too large"),
    ({"intensity": 3}, "DatasetInfo"), ({"resize": "stretch"}, "resize"), ({"lineage": {"fitted": 3}}, "DatasetInfo"), ({"name": ["x"]}, "name"),
])  # fmt: skip
def test_a_strangers_dataset_yaml_is_checked(tmp_path, changes, words):
    tiny(tmp_path / "set")
    edited(tmp_path / "set", (tmp_path / "set" / "manifest.csv").read_text(), **changes)
    with pytest.raises(InputError, match=words):
        Manifest.read(tmp_path / "set")
