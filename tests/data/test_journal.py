"""The journal of a draft: whole lines are read back, torn ones are not; changes of files and of options are seen."""

import os

from PIL import Image

from synthrad.data.journal import Journal, digest_of_inputs, noting_files, states, unchanged


def test_rows_are_read_back_and_torn_lines_are_not(tmp_path):
    journal = Journal(tmp_path)
    for k in range(3):
        journal.add({"id": f"1/{k}", "value": k})
    journal.add({"id": "1/0", "value": 9})  # the last of a row counts
    journal.close()
    whole = journal.path.read_bytes()
    for cut in range(len(whole)):
        journal.path.write_bytes(whole[:cut])
        again = Journal(tmp_path)
        lines = whole[:cut].count(b"\n")
        assert len(again.kept) == min(lines, 3)
        again.add({"id": "1/8", "value": 8})
        again.close()
        assert Journal(tmp_path).kept["1/8"] == {"id": "1/8", "value": 8}  # a torn line spoils no later one


def test_what_is_there_already_is_not_added_again(tmp_path):
    journal = Journal(tmp_path)
    journal.add({"id": "1/0", "value": 1})
    journal.close()
    again, before = Journal(tmp_path), journal.path.stat().st_size
    again.add(again.kept["1/0"])
    again.close()
    assert Journal(tmp_path).kept == {"1/0": {"id": "1/0", "value": 1}} and journal.path.stat().st_size <= before + 1


def test_files_are_noted_whoever_opens_them(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "own").mkdir()
    with noting_files() as names:
        Image.open(tmp_path / "a.png").load()
        os.close(os.open(str(tmp_path / "own"), os.O_RDONLY))
        (tmp_path / "own" / "made.png").write_bytes(b"x")
        try:
            open(tmp_path / "none.png")
        except FileNotFoundError:
            pass
    Image.open(tmp_path / "a.png").load()
    told = states(names, but=tmp_path / "own")
    assert [t[0] for t in told] == [str(tmp_path / n) for n in ("a.png", "none.png", "own")]
    assert unchanged(told)
    (tmp_path / "none.png").touch()
    assert not unchanged(told)
    stamp = (tmp_path / "a.png").stat()
    Image.new("L", (4, 4), 9).save(tmp_path / "a.png")
    os.utime(tmp_path / "a.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert not unchanged(told[:1])


def test_options_tables_and_facts_are_in_the_digest(tmp_path):
    (tmp_path / "t.csv").write_text("a")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "1.png").write_text("1")
    options = {"root": tmp_path / "root", "table": str(tmp_path / "t.csv"), "labels": ["x"], "none": None}
    seen = [digest_of_inputs(options, ["f"])]
    assert digest_of_inputs(dict(reversed(options.items())), ["f"]) == seen[0]
    (tmp_path / "root" / "1.png").write_text("a picture is a row's own")
    assert digest_of_inputs(options, ["f"]) == seen[0]
    seen.append(digest_of_inputs(options | {"labels": ["y"]}, ["f"]))
    seen.append(digest_of_inputs(options, ["g"]))
    (tmp_path / "t.csv").write_text("b")
    seen.append(digest_of_inputs(options, ["f"]))
    (tmp_path / "root" / "boxes.CSV").write_text("c")
    seen.append(digest_of_inputs(options, ["f"]))
    assert len(set(seen)) == 5
