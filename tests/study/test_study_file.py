from pathlib import Path

import pytest
import yaml
from sound_study import changed

from synthrad.errors import InputError
from synthrad.filter import load_filter
from synthrad.study.study_file import load_study

STUDIES = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml"))


def write(tmp_path, **changes):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(changed(**changes)))
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
    ({"arms__matched__args": {"rato": 2}}, ["arms.matched.args.rato", "did you mean ratio"]),
    ({"sedes": 3}, ["sedes", "did you mean seeds"]),
    ({"arms__matched__source": "gan"}, ["arms.matched.source", "'gan'", "made"]),
    ({"arms__real_only__strategy": "Matched"}, ["real_only"]),
    ({"endpoint__net": "segformer"}, ["segformer", "t/unet"]),
    ({"seeds": 0}, ["seeds", "0"]),
    ({"sources__made__generator": "x.yaml"}, ["sources.made", "exactly one"]),
    ({"arms": {"real_only": {"strategy": "RealOnly"}, "Bad Name": {"strategy": "RealOnly"}}}, ["Bad Name"]),
    ({"endpoint__metric": "dise"}, ["endpoint.metric", "'dise'", "dice, iou", "segmentation task 't'", "did you mean dice"]),
    ({"endpoint__metric": "auroc"}, ["endpoint.metric", "'auroc'", "dice, iou"]),
    ({"cells": {"klasses": ["caries"]}}, ["cells.klasses", "an unknown key", "did you mean classes"]),
    ({"cells": {"size_bins": ["caries"]}}, ["cells.size_bins", "dictionary"]),
    ({"arms__matched__args": {"cells": {"attribute": ["sex"]}}}, ["arms.matched.args.cells.attribute", "did you mean attributes"]),
    ({"arms__matched__args": {"ratio": "abc"}}, ["arms.matched.args: Matched.ratio", "'abc'"]),
    ({"size": [0, 64]}, ["size.0", "16", "found 0"]),
    ({"tasks__t__size": [64, 128]}, ["tasks.t.size: [64, 128] has another aspect than size"]),
    ({"sources__made": {"generator": "x.yaml", "size": [128, 64]}}, ["sources.made.size: [128, 64] has another aspect than size"]),
    ({"sources__made__size": [32, 32]}, ["sources.made", "`size` is for a `generator`"]),
    ({"sources__made__checkpoint": "best"}, ["sources.made", "`checkpoint` is for a `generator`"]),
    ({"seed": 2}, ["seed: unknown key; did you mean seeds"]),
    ({"sources__made__sed": 2}, ["sources.made.sed: unknown key; did you mean seed"]),
    ({"tasks__t__nets__unet__init_arg": {}}, ["init_arg: unknown key; did you mean init_args"]),
    ({"sources__made__score": {"step": 3}}, ["sources.made.score.step: unknown key; did you mean steps"]),
    ({"name": "Tiny Study"}, ["name: found 'Tiny Study'", "lower case letters, digits and _"]),
])
def test_faults_name_key_and_repair(tmp_path, changes, words):
    path = write(tmp_path, **changes)
    with pytest.raises(InputError) as e:
        load_study(path)
    for word in [str(path), *words]:
        assert word in str(e.value)


def test_messages_hold_no_words_of_the_library(tmp_path):
    for changes in ({"arms__matched__source": "gan"}, {"endpoint__metric": "dise"}, {"name": "Tiny Study"}):
        with pytest.raises(InputError) as e:
            load_study(write(tmp_path, **changes))
        assert not any(words in str(e.value) for words in ("Value error", "study: ", "pattern"))


@pytest.mark.parametrize(("text", "words"), [("", "an empty file"), ("- a", "a list"), ("name: [", "no YAML"), (None, "a folder")])
def test_what_is_no_study_file(tmp_path, text, words):
    path = tmp_path / "s.yaml"
    path.mkdir() if text is None else path.write_text(text)
    with pytest.raises(InputError, match=f"s.yaml: found {words}"):
        load_study(path)


def test_a_key_given_twice_is_refused_and_a_merge_is_not(tmp_path):
    path = write(tmp_path)
    path.write_text(path.read_text() + "seeds: 7\n")
    with pytest.raises(InputError, match=r"s.yaml, line \d+: found the key 'seeds' again, first on line \d+"):
        load_study(path)
    write(tmp_path)
    path.write_text("sources: {made: &made {manifest: data/y}, more: {<<: *made, manifest: data/z}}\n"
                    + "".join(path.read_text().partition("sources:\n  made:\n    manifest: data/y\n")[::2]))
    assert load_study(path).sources["more"].manifest == "data/z"


def test_all_faults_at_once(tmp_path):
    with pytest.raises(InputError, match="2 fault"):
        load_study(write(tmp_path, seeds=0, tasks__t__steps=0))


def test_missing_file_lists_neighbours(tmp_path):
    write(tmp_path)
    with pytest.raises(InputError, match="s.yaml"):
        load_study(tmp_path / "z.yaml")


def test_a_filter_config_gives_each_key_once(tmp_path):
    (tmp_path / "f.yaml").write_text("class_path: synthrad.fusion.MaskQuality\ninit_args:\n  min_dice: 0.7\n  min_dice: 0.8\n")
    with pytest.raises(InputError, match=r"f.yaml, line 4: found the key 'min_dice' again, first on line 3"):
        load_filter(tmp_path / "f.yaml")
