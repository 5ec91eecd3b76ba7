import pytest
from noise_painter import INFO, LINEAGE, Painter, conditions

from synthrad.blocks import FOLDER
from synthrad.errors import InputError, RunError
from synthrad.sampling import set_folder
from synthrad.sampling.drawing import sample_set

SETTINGS = {"seed": 1, "rows": 4}


def test_another_set_in_the_folder_is_refused(checkpoint, tmp_path):
    sample_set(Painter(), checkpoint, conditions(4), 0, tmp_path / "set", INFO, LINEAGE)
    with pytest.raises(InputError, match="other seed"):
        sample_set(Painter(), checkpoint, conditions(4), 1, tmp_path / "set", INFO, LINEAGE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="other files"):
        sample_set(Painter(), checkpoint, conditions(4), 1, tmp_path / "mine", INFO, LINEAGE)


def test_what_a_kill_leaves_of_a_whole_set_is_removed(tmp_path):
    assert not set_folder.is_finished(tmp_path, SETTINGS)  # begun: the folder is marked
    (tmp_path / "dataset.yaml").write_text("whole")
    assert set_folder.is_untouched(tmp_path, SETTINGS) and not set_folder.is_untouched(tmp_path, {"seed": 2})
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "0.json").write_text("{}")
    (tmp_path / ".manifest.csv.x1").write_text("half")
    assert not set_folder.is_untouched(tmp_path, SETTINGS)
    assert set_folder.is_finished(tmp_path, SETTINGS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dataset.yaml", set_folder.MARK]


def test_another_process_waits_for_the_first_one(tmp_path, monkeypatch):
    monkeypatch.setattr(set_folder, "BEGIN_SECONDS", 0.2)
    with pytest.raises(RunError, match="has not begun"):
        set_folder.begun(tmp_path, SETTINGS)
    set_folder.is_finished(tmp_path, SETTINGS)
    with pytest.raises(InputError, match="other seed"):
        set_folder.begun(tmp_path, {**SETTINGS, "seed": 2})
    (tmp_path / "dataset.yaml").write_text("whole")
    assert not set_folder.begun(tmp_path, SETTINGS)  # nothing is left to draw
