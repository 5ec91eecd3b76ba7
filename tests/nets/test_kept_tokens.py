import pytest
import torch

from synthrad.nets import kept_tokens
from synthrad.nets.kept_tokens import KeptTokens


def test_what_was_written_is_read_by_others(tmp_path):
    kept, tokens = KeptTokens(tmp_path / "made"), torch.randn(3, 4).half()
    assert kept.read([1, 2, 3]) is None and not (tmp_path / "made").exists()
    kept.write([1, 2, 3], tokens)
    found = KeptTokens(tmp_path / "made").read([1, 2, 3])
    assert found.dtype == torch.float16 and torch.equal(found, tokens)
    assert kept.read([1, 23]) is None and kept.read([1, 2]) is None


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b"", lambda b: b[:20], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_damage_is_as_good_as_nothing(tmp_path, damage):
    kept = KeptTokens(tmp_path)
    kept.write([5], torch.randn(1, 4).half())
    [file] = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert kept.read([5]) is None
    kept.write([5], torch.ones(1, 4).half())
    assert torch.equal(kept.read([5]), torch.ones(1, 4).half())


def test_room_ends(tmp_path, monkeypatch):
    kept = KeptTokens(tmp_path)
    kept.write([1], torch.zeros(4, 4).half())
    monkeypatch.setattr(kept_tokens, "MOST_BYTES", 1)
    for again in (kept, KeptTokens(tmp_path)):
        again.write([2], torch.zeros(4, 4).half())
        assert again.read([2]) is None and again.read([1]) is not None


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path, recwarn):
    (tmp_path / "file").write_text("in the way")
    kept = KeptTokens(tmp_path / "file" / "made")
    for _ in range(2):
        kept.write([1], torch.zeros(1, 4).half())
    assert len(recwarn) == 1 and "not kept there" in str(recwarn[0].message) and kept.read([1]) is None
