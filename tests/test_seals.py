from dataclasses import replace

import pytest
import yaml
from bare_manifest import edit, make

from synthrad.errors import InputError
from synthrad.lineage import Fitted, Lineage
from synthrad.records import Manifest
from synthrad.seals import checked_lineage, seal, seal_says

DRAWN = Lineage((Fitted("generator", "a" * 64, trained_on=frozenset({"b" * 40})),))


@pytest.fixture
def drawn(tmp_path):
    """The folder of a synthetic set that this project wrote."""
    return make(tmp_path / "set", source="synthetic", lineage=DRAWN).write(tmp_path / "set")


def says(folder, **changes):
    path = folder / "dataset.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def test_a_lineage_is_believed_under_this_projects_seal_alone(drawn, tmp_path, monkeypatch):
    assert seal_says(drawn) == "this project" and Manifest.read(drawn).info.lineage == DRAWN
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path / "elsewhere"))
    assert Manifest.read(drawn).info.lineage.origin == "unknown"  # a project without a key, and one with another
    make(tmp_path / "own", lineage=DRAWN).write(tmp_path / "own")
    assert seal_says(drawn) == "another project" and Manifest.read(drawn).info.lineage.origin == "unknown"
    says(drawn, seal="")
    assert seal_says(drawn) == "nobody" and Manifest.read(drawn).info.lineage.origin == "unknown"


def test_what_was_sealed_stays_as_it_was(drawn):
    edit(drawn, lambda t: t.assign(subject="another"))
    with pytest.raises(InputError, match="differ from what this project sealed"):
        Manifest.read(drawn)


def test_a_seal_does_not_hang_on_where_the_files_lie(tmp_path):
    info = make(tmp_path, lineage=DRAWN).info
    assert seal(info, "d") == seal(replace(info, roots={"here": "/elsewhere"}), "d")
    assert len({seal(info, "d"), seal(info, "e"), seal(replace(info, id="another"), "d"), seal(replace(info, lineage=Lineage()), "d")}) == 4


def test_a_seal_without_its_lineage_is_refused(tmp_path):
    info = make(tmp_path, lineage=DRAWN).info
    own, bare = seal(info, "d"), replace(info, lineage=Lineage())
    with pytest.raises(InputError, match="differ"):
        checked_lineage(bare, {"digest": "d", "seal": own}, "dataset.yaml")
    with pytest.raises(InputError, match="a seal and no lineage"):
        checked_lineage(bare, {"digest": "d", "seal": f"{'0' * 12}:{'0' * 64}"}, "dataset.yaml")
    assert checked_lineage(bare, {"digest": "d"}, "dataset.yaml") == Lineage()
