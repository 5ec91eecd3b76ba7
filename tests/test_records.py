from dataclasses import replace

import numpy as np
import pytest
from bare_manifest import make
from tiny_set import make as tiny

from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.records import Manifest


def test_round_trip(tmp_path):
    made = make(tmp_path / "m")
    back = Manifest.read(made.write(tmp_path / "m"))
    assert back.digest == made.digest and len(back) == 6 and list(back)[3] == made[3]
    assert back[2].labels == (None, None) and back[1].labels == (1, None) and back[0].masks == (None,)
    assert back[1].masks == (tmp_path / "m" / "masks/tooth/1.png",) and back[1].areas == {"tooth/11": 0.1}
    assert str(back[1].channels[0]) == "/elsewhere/images/1.png"
    made.write(tmp_path / "m")
    assert Manifest.read(tmp_path / "m").digest == made.digest


def test_a_manifest_is_frozen(tmp_path):
    made = make(tmp_path)
    table = made.table
    table.loc[0, "subject"] = "other"
    assert made[0].subject == "s0"
    with pytest.raises(ValueError):
        made.column("subject")[0] = "other"
    assert made.with_columns({"subject": "x"})[0].subject == "x" and made[0].subject == "s0"


def test_where_take_and_slices(tmp_path):
    made = make(tmp_path)
    assert len(made.where(split="train", source="real")) == 4 and len(made[1:3]) == 2
    assert [r.digest for r in made.take([2, 2, 0])] == ["d2", "d2", "d0"]
    with pytest.raises(InputError, match="colour"):
        made.where(colour="x")


def test_moved_folder_keeps_its_digest(tmp_path):
    made = make(tmp_path / "m")
    made.write(tmp_path / "m")
    (tmp_path / "m").rename(tmp_path / "n")
    moved = Manifest.read(tmp_path / "n")
    assert moved.digest == made.digest and moved[1].masks == (tmp_path / "n" / "masks/tooth/1.png",)


def test_adding_keeps_the_files_of_both_also_when_written(tmp_path):
    real, fake = make(tmp_path / "r").where(split="train"), make(tmp_path / "f", name="f", source="synthetic")
    fake = fake.with_columns({"root": "here", "score:dice": 0.5, "split": "train", "origin:seed": "3"})
    both = real + fake
    Manifest.read(both.write(tmp_path / "both"))
    for m in (both, Manifest.read(tmp_path / "both")):
        assert len(m) == len(real) + len(fake)
        for mine, theirs in zip(m, [*real, *fake], strict=True):
            assert mine.channels == theirs.channels and mine.masks == theirs.masks
        assert m[0].scores == {} and m[len(real)].scores == {"dice": 0.5} and m[0].origin == {}
    assert len(real + fake.take([])) == len(real)
    with pytest.raises(InputError, match="classes"):
        real + Manifest(fake.table, DatasetInfo("x", "x", classes=("other",)))


def test_writing_elsewhere_keeps_files_of_here(tmp_path):
    fake = make(tmp_path / "f").with_columns({"root": "here"})
    for name in ("images", "other"):  # also when a root is called images already
        info = DatasetInfo(**{**fake.info.__dict__, "roots": {"here": str(tmp_path / "f"), name: "/x"}})
        back = Manifest.read(Manifest(fake.table, info).write(tmp_path / f"kept-{name}"))
        assert back[1].channels == (tmp_path / "f" / "1.png",) and back[1].masks == fake[1].masks


def test_a_folder_that_holds_its_files_can_be_moved(tmp_path):
    parts = [make(tmp_path / "set" / name).with_columns({"root": "here"}) for name in ("a", "b")]
    (parts[0] + parts[1]).write(tmp_path / "set")
    assert str(tmp_path) not in "".join((tmp_path / "set" / n).read_text() for n in ("manifest.csv", "dataset.yaml"))
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = Manifest.read(tmp_path / "moved")
    assert moved[1].masks == (tmp_path / "moved/a/masks/tooth/1.png",)
    assert moved[len(parts[0]) + 1].channels == (tmp_path / "moved/b/1.png",)


@pytest.mark.parametrize("yaml", ["a: [", "- 1", "format: 1\nname: x", "format: 2", ""])
def test_a_broken_dataset_yaml(tmp_path, yaml):
    make(tmp_path).write(tmp_path)
    (tmp_path / "dataset.yaml").write_text(yaml)
    with pytest.raises(InputError, match=r"dataset\.yaml"):
        Manifest.read(tmp_path)


def test_unfinished_edited_and_missing(tmp_path):
    make(tmp_path).write(tmp_path)
    (tmp_path / "manifest.csv").write_text((tmp_path / "manifest.csv").read_text() + "x")
    with pytest.raises(InputError, match="differ"):
        Manifest.read(tmp_path)
    (tmp_path / "dataset.yaml").unlink()
    with pytest.raises(InputError, match="unfinished"):
        Manifest.read(tmp_path)
    with pytest.raises(InputError, match=r"no dataset\.yaml"):
        Manifest.read(tmp_path / "none")


def test_soft_labels_are_trained_towards_and_counted_by_their_label(tmp_path):
    made = make(tmp_path / "m")  # caries is 0, 1, unknown ...; the last two rows are test
    soft = np.array([0.3, 0.7, np.nan, np.nan, np.nan, np.nan])
    back = Manifest.read(made.with_columns({"soft:caries": soft}).write(tmp_path / "m"))
    assert back[1].labels == (1, None) and back[1].soft == {"caries": 0.7} and back[2].soft == {}
    assert back.labels[:4, 0].tolist()[:2] == [0, 1] and np.isnan(back.labels[2, 0])
    assert np.array_equal(back.training_labels[:, 0], [0.3, 0.7, np.nan, 0, 1, np.nan], equal_nan=True)
    assert np.isnan(back.training_labels[:, 1]).all() and back.labels[1, 0] == 1  # the table itself is as it was
    both = back + make(tmp_path / "other", name="d", source="synthetic")
    assert np.isnan(both.column("soft:caries")[6:]).all() and both.training_labels[1, 0] == 0.7


def test_a_set_written_elsewhere_names_the_folder_of_its_masks(tmp_path):
    a = tiny(tmp_path / "a")
    moved = Manifest(a.table.assign(root="images"), replace(a.info, roots={"here": str(tmp_path / "a"), "images": str(tmp_path / "a")}))
    moved.write(tmp_path / "b")
    assert Manifest.read(tmp_path / "b")[0].masks == a[0].masks


def test_links_that_leave_the_root_are_not_followed(tmp_path):
    manifest = tiny(tmp_path / "set")
    (tmp_path / "secret.png").write_bytes((tmp_path / "set" / "images" / "0.png").read_bytes())
    (tmp_path / "set" / "images" / "0.png").unlink()
    (tmp_path / "set" / "images" / "0.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match="a link to .*secret.png, outside"):
        manifest[0]
    (tmp_path / "set" / "images" / "1.png").unlink()
    (tmp_path / "set" / "images" / "1.png").symlink_to("2.png")
    assert manifest[1].channels[0].name == "1.png"


def test_a_set_that_another_process_puts_in_place_meanwhile_is_read(tmp_path, monkeypatch):
    import synthrad.records as records

    folder = tmp_path / "set"
    tiny(folder, rows=12)
    (folder / "dataset.yaml").rename(tmp_path / "dataset.yaml")

    def finished_by_another(out):
        (tmp_path / "dataset.yaml").rename(out / "dataset.yaml")
        return False

    monkeypatch.setattr(records, "finish_others_swap", finished_by_another)
    assert len(Manifest.read(folder)) == 12
