from pathlib import Path

import pytest
import yaml

from synthrad.errors import InputError
from synthrad.study.description import load_study

STUDIES = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml"))
BASE = {
    "name": "s", "manifest": "data/x", "size": [64, 64], "seeds": 2,
    "sources": {"made": {"manifest": "data/y"}},
    "arms": {"real_only": {"strategy": "RealOnly"}, "matched": {"strategy": "Matched", "source": "made"}},
    "tasks": {"t": {"kind": "segmentation", "steps": 5, "nets": {"unet": {"class_path": "SmpNet"}}}},
    "endpoint": {"task": "t", "net": "unet", "metric": "dice"},
}


def write(tmp_path, **changes):
    data = yaml.safe_load(yaml.safe_dump(BASE))
    for key, value in changes.items():
        target = data
        *parents, last = key.split("__")
        for p in parents:
            target = target[p]
        target[last] = value
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_shipped_studies_are_valid_and_say_their_command(path):
    study = load_study(path)
    assert study.name == path.stem
    assert path.read_text().startswith(f"# synthrad study run configs/studies/{path.name}")


def test_a_sound_file_passes(tmp_path):
    assert load_study(write(tmp_path)).arms["matched"].source == "made"


@pytest.mark.parametrize(("changes", "words"), [
    ({"arms__matched__strategy": "Matchd"}, ["arms.matched.strategy", "'Matchd'", "did you mean Matched"]),
    ({"arms__matched__args": {"rato": 2}}, ["arms.matched.args.rato", "did you mean `ratio`"]),
    ({"sedes": 3}, ["sedes", "did you mean `seeds`"]),
    ({"arms__matched__source": "gan"}, ["arms.matched.source", "'gan'", "made"]),
    ({"arms__real_only__strategy": "Matched"}, ["real_only"]),
    ({"endpoint__net": "segformer"}, ["segformer", "t/unet"]),
    ({"seeds": 0}, ["seeds", "0"]),
    ({"sources__made__generator": "x.yaml"}, ["sources.made", "exactly one"]),
    ({"arms": {"real_only": {"strategy": "RealOnly"}, "Bad Name": {"strategy": "RealOnly"}}}, ["Bad Name"]),
])
def test_faults_name_key_and_repair(tmp_path, changes, words):
    path = write(tmp_path, **changes)
    with pytest.raises(InputError) as e:
        load_study(path)
    for word in [str(path), *words]:
        assert word in str(e.value)


def test_all_faults_at_once(tmp_path):
    with pytest.raises(InputError, match="2 fault"):
        load_study(write(tmp_path, seeds=0, tasks__t__steps=0))


def test_missing_file_lists_neighbours(tmp_path):
    write(tmp_path)
    with pytest.raises(InputError, match="s.yaml"):
        load_study(tmp_path / "z.yaml")
