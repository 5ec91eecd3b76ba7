import pytest

from synthrad.errors import naming


def test_an_error_that_names_no_file_gets_one():
    with pytest.raises(OSError, match="No space.*out/a.png"), naming("out/a.png"):
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match="own.png"), naming("out/a.png"):
        raise OSError(28, "No space left on device", "own.png")
    with pytest.raises(BrokenPipeError) as e, naming("out/a.png"):
        raise BrokenPipeError(32, "Broken pipe")
    assert e.value.filename is None
