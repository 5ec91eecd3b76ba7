import ast
import inspect
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthrad.__main__ import main
from synthrad.data.leaks import Copies, read_copies
from synthrad.data.writing import Draft
from synthrad.prepare import READERS, parser, readers
from synthrad.records import Manifest
from synthrad.study.replicating import resplit


def picture(rng):
    return np.kron(rng.integers(0, 255, (8, 8)), np.ones((4, 4))).astype(np.uint8)


def build(folder, arrays, subjects, splits=None):
    folder.mkdir()
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{i}.png")
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(len(arrays))], "patient": subjects})
    (table.assign(split=splits) if splits else table).to_csv(folder / "t.csv", index=False)
    return ["prepare", "table", str(folder / "t.csv"), str(folder.parent / "out"), "--subject", "patient"]


def test_readers_are_the_files_of_the_folder():
    names = {p.stem for p in READERS.glob("*.py")} - {"__init__"}
    assert set(readers()) == names >= {"table", "dentex"}
    for module in readers().values():
        assert (
            isinstance(module.DESCRIPTION, str) and callable(module.read) and callable(module.add_arguments)
        )


@pytest.mark.parametrize("name", sorted(readers()))
def test_a_killed_run_of_every_reader_is_known_by_its_options(name):
    parameters = list(inspect.signature(Draft).parameters)
    for call in ast.walk(ast.parse(inspect.getsource(readers()[name]))):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Draft":
            given = [*parameters[: len(call.args)], *(k.arg for k in call.keywords)]
            assert "args" in given, f"{name}: Draft(..., args=args), else a killed run starts again and --workers does nothing"


def test_help_lists_readers_fast_and_without_torch():
    code = (
        "import sys\nfrom synthrad.__main__ import main\n"
        "try:\n    main(['prepare', '--help'])\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    for name, module in readers().items():
        assert name in done.stdout and module.DESCRIPTION.split()[0] in done.stdout
    assert seconds < 10  # the goal is 2 s on an idle machine; tests share theirs


@pytest.mark.parametrize("name", sorted(readers()))
def test_help_of_each_reader(name, capsys):
    with pytest.raises(SystemExit) as e:
        parser().parse_args([name, "--help"])
    assert e.value.code == 0
    assert "OUT" in capsys.readouterr().out


def test_summary_and_the_same_picture_under_two_subjects(tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = [picture(rng) for _ in range(11)]
    words = build(tmp_path / "d", [*arrays, arrays[3]], [f"p{i}" for i in range(12)])
    assert main(words) == 0
    text = capsys.readouterr().out
    assert (
        "12 images of 12 subjects" in text
        and "p3 (row 5) = p11 (row 13)" in text
        and "near copies under two subjects: none" in text
    )


def test_an_equal_picture_in_two_splits_is_an_error(tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = [picture(rng) for _ in range(3)]
    words = build(tmp_path / "d", [*arrays, arrays[0]], list("abcd"), ["train", "val", "audit", "test"])
    assert main([*words, "--split", "split"]) == 2
    text = capsys.readouterr().err
    assert "row 5" in text and "row 2" in text and "same picture" in text
    assert not (tmp_path / "out" / "dataset.yaml").exists()


def test_near_copies_across_given_splits_are_refused_unless_allowed(tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = [picture(rng) for _ in range(3)]
    almost = np.clip(arrays[0].astype(int) + 1, 0, 255).astype(np.uint8)
    words = [*build(tmp_path / "d", [*arrays, almost], list("abcd"), ["train", "val", "audit", "test"]), "--split", "split"]
    assert main(words) == 2
    text = capsys.readouterr().err
    assert "row 5" in text and "'d' in test: nearly the picture of subject 'a' in train (row 2" in text and "--allow-near-copies" in text
    assert not (tmp_path / "out" / "dataset.yaml").exists()
    assert main([*words, "--allow-near-copies"]) == 0
    text = capsys.readouterr().out
    assert "1 of them cross splits" in text and "row 2 a (train)  ~  row 5 d (test)" in text
    assert main([*words, "--skip-near-copies"]) == 0 and "near copies" not in capsys.readouterr().out
    assert read_copies(tmp_path / "out") == Copies()


def test_near_copies_are_kept_in_one_split(tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = [picture(rng) for _ in range(12)]
    words = build(tmp_path / "d", [*arrays, arrays[0][:, ::-1], arrays[1] // 2 + 9], [f"p{i}" for i in range(14)])
    for seed in range(4):
        assert main([*words, "--seed", str(seed)]) == 0
        assert "2 pair(s) of near copies under two subjects, each in one split" in capsys.readouterr().out
        made = Manifest.read(tmp_path / "out")
        split = dict(zip(made.column("subject"), made.column("split"), strict=True))
        assert split["p0"] == split["p12"] and split["p1"] == split["p13"]
    for seed in range(4):  # a replicate of a study keeps them so
        split = dict(zip(made.column("subject"), resplit(made, seed).column("split"), strict=True))
        assert split["p0"] == split["p12"] and split["p1"] == split["p13"]


def test_images_are_compared_by_as_many_workers_as_given(tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    asked = []
    monkeypatch.setattr("synthrad.data.leaks.ThreadPoolExecutor", lambda workers: (asked.append(workers), ThreadPoolExecutor(workers))[1])
    rng = np.random.default_rng(0)
    words = build(tmp_path / "d", [picture(rng) for _ in range(6)], list("abcdef"))
    assert main([*words, "--workers", "3"]) == 0 and asked == []  # thumbnails are there from the first decoding
    monkeypatch.setattr("synthrad.data.thumbnails.Thumbnails.read", lambda *_: None)
    assert main([*words, "--workers", "3"]) == 0 and asked == [3]


def test_spellings_of_a_subject(tmp_path, capsys):
    rng = np.random.default_rng(0)
    words = build(tmp_path / "d", [picture(rng) for _ in range(6)], ["P 01", "p1", "a", "b", "c", "d"])
    assert main(words) == 2
    text = capsys.readouterr().err
    assert "row 3" in text and "'p1'" in text and "'P 01' (row 2)" in text and "--subject-spellings one" in text
    assert main([*words, "--subject-spellings", "one"]) == 0 and "6 images of 5 subjects" in capsys.readouterr().out
    assert main([*words, "--subject-spellings", "apart"]) == 0 and "6 images of 6 subjects" in capsys.readouterr().out
    assert main([w for w in words if w not in ("--subject", "patient")]) == 0  # files are no patients


def test_spellings_are_joined_before_splits_are_compared_and_a_refusal_leaves_the_older_set(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    subjects, splits = ["P 01", "p1", "a", "b", "c"], ["train", "test", "val", "audit", "test"]
    words = build(tmp_path / "d", [picture(rng) for _ in range(5)], subjects, splits)
    assert main([*words, "--subject-spellings", "apart"]) == 0
    older = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    given = [*words, "--split", "split", "--subject-spellings", "one", "--skip-near-copies"]
    assert main(given) == 2 and "row 3, column 'split': subject 'P 01' is in 'test' here and in 'train' in row 2" in capsys.readouterr().err
    monkeypatch.setattr("synthrad.data.readers.table._check_crossing", lambda draft: None)  # whatever a reader overlooks
    assert main(given) == 2 and "manifest.csv" in capsys.readouterr().err
    assert older == {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} and len(Manifest.read(tmp_path / "out")) == 5


def test_spellings_are_refused_before_any_image_is_read(tmp_path, monkeypatch, capsys):
    words = build(tmp_path / "d", [picture(np.random.default_rng(0))] * 2, ["P1", "p1"])
    monkeypatch.setattr("synthrad.data.writing.read_image", None)
    assert main(words) == 2 and "'p1'" in capsys.readouterr().err


def test_a_killed_run_can_be_repeated(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    words = build(tmp_path / "d", [picture(rng) for _ in range(6)], list("abcdef"))

    def stop(self, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("synthrad.records.Manifest.write", stop)
        assert main(words) == 1
    assert "interrupted; the same command resumes" in capsys.readouterr().err
    assert not (tmp_path / "out" / "dataset.yaml").exists()
    assert main(words) == 0
    assert (tmp_path / "out" / "dataset.yaml").exists()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    words = build(tmp_path / "d", [picture(rng) for _ in range(6)], list("abcdef"))

    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("synthrad.records.write_durably", full)
    assert main(words) == 1
    assert "No space left" in capsys.readouterr().err
    assert not (tmp_path / "out" / "dataset.yaml").exists()


def full(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("reader", "place"),
    [("table", "PIL.Image.Image.save"), ("table", "shutil.copyfile"), ("phantom", "PIL.Image.Image.save")],
)
def test_a_full_disk_while_images_are_written_names_the_place(tmp_path, monkeypatch, capsys, reader, place):
    words = build(tmp_path / "d", [picture(np.random.default_rng(i)) for i in range(6)], list("abcdef"))
    words = [*words, "--mask", "image", "--mask-classes", "any:1-255=x", "--copy"]
    if reader == "phantom":
        words = ["prepare", "phantom", str(tmp_path / "out"), "--number", "8"]
    monkeypatch.setattr(place, full)
    assert main(words) == 1
    text = capsys.readouterr().err
    assert f"{tmp_path / 'out'}" in text and "Repair: make room" in text


def test_sets_that_no_study_can_use_or_without_patients_are_warned_of(tmp_path, capsys):
    words = build(tmp_path / "d", [picture(np.random.default_rng(i)) for i in range(4)], list("abcd"), ["train"] * 3 + ["val"])
    assert main([*words, "--split", "split"]) == 0
    text = capsys.readouterr().out
    assert "warning: no row in test: no study can run" in text and "no --subject" not in text
    assert main([*words[:-2], "--fractions", "0.25", "0.25", "0.25", "0.25"]) == 0
    text = capsys.readouterr().out
    assert "warning: no --subject: each image counts as a patient" in text and "no row in" not in text
    assert main([*words[:-2], "--synthetic", "--trained-on", "unknown"]) == 0
    assert "warning: no " not in capsys.readouterr().out


def test_a_column_of_numbers_as_attribute_asks_for_groups(tmp_path, capsys):
    words = build(tmp_path / "d", [picture(np.random.default_rng(i)) for i in range(12)], list("abcdefghijkl"), ["train"] * 12)
    table = pd.read_csv(tmp_path / "d" / "t.csv").assign(age=range(30, 42), site=["x", "y"] * 6)
    table.to_csv(tmp_path / "d" / "t.csv", index=False)
    assert main([*words, "--split", "split", "--attributes", "age", "site"]) == 0
    text = capsys.readouterr().out
    assert "attribute age holds 12 different numbers" in text and "--age-bands 40 60" in text and "attribute site" not in text
    table.assign(age=[30 + i % 3 for i in range(12)]).to_csv(tmp_path / "d" / "t.csv", index=False)
    assert main([*words, "--split", "split", "--attributes", "age"]) == 0 and "different numbers" not in capsys.readouterr().out
    table.to_csv(tmp_path / "d" / "t.csv", index=False)
    assert main([*words, "--split", "split", "--attributes", "age", "--age-bands", "40"]) == 0
    assert "different numbers" not in capsys.readouterr().out
