import pytest

from synthrad.errors import Fault, InputError, InputErrors, naming


def test_an_error_that_names_no_file_gets_one():
    with pytest.raises(OSError, match="No space.*out/a.png"), naming("out/a.png"):
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match="own.png"), naming("out/a.png"):
        raise OSError(28, "No space left on device", "own.png")
    with pytest.raises(BrokenPipeError) as e, naming("out/a.png"):
        raise BrokenPipeError(32, "Broken pipe")
    assert e.value.filename is None


def test_faults_of_one_kind_are_one_line():
    faults = [f"row {k}, column 'x': found '2'" for k in (3, 5, 9)] + ["row 4, column 'x': found '3'", "all wrong"]
    text = str(InputErrors("t.csv", faults))
    assert text.splitlines() == [
        "t.csv: 5 fault(s)",
        "  3 rows, first row 3: column 'x': found '2'",
        "  row 4, column 'x': found '3'",
        "  all wrong",
    ]


def test_the_name_of_the_file_does_not_part_faults():
    errors = [InputError(f"d/{k}.png", f"no picture (d/{k}.png)", "one", "look") for k in range(60)]
    faults = [Fault.of(f"row {k + 2}, ", Fault.of("column 'i': ", e), numbered=True) for k, e in enumerate(errors)]
    faults.append(Fault.of("row 70, ", InputError("d/70.png", "a folder", "one"), numbered=True))
    lines = str(InputErrors("t.csv", faults)).splitlines()
    assert lines[1] == "  60 rows, first row 2: column 'i': d/0.png: found no picture (d/0.png); expected one."
    assert len(lines) == 4 and lines[3].startswith("  row 70, d/70.png: found a folder")
