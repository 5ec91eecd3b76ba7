"""Weights in an identity: what the files hold decides, wherever they lie; large files are read once."""

import os
import shutil

import pytest

from synthrad.files import file_digest
from synthrad.nets import weight_files
from synthrad.nets.weight_files import said_of, with_digests


@pytest.fixture(autouse=True)
def own_project(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path / "project"))


def test_a_file_is_what_it_holds(tmp_path):
    file = tmp_path / "net.pth"
    file.write_bytes(b"one")
    before = said_of(str(file))
    assert before == f"sha256:{file_digest(file)}"
    assert said_of(str(file.rename(tmp_path / "moved.pth"))) == before
    (tmp_path / "moved.pth").write_bytes(b"two")
    assert said_of(str(tmp_path / "moved.pth")) != before


def test_a_project_that_cannot_be_written_keeps_no_digests(tmp_path, monkeypatch):
    file = tmp_path / "net.pth"
    file.write_bytes(b"one")
    said = said_of(str(file))
    (tmp_path / "no_folder").write_text("")
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path / "no_folder"))
    assert said_of(str(file)) == said == f"sha256:{file_digest(file)}"


def test_a_folder_is_its_names_and_contents_but_for_what_no_net_reads(tmp_path):
    folder = tmp_path / "hub"
    (folder / ".cache").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    before = said_of(str(folder))
    (folder / ".cache" / "downloaded").write_text("today")
    (folder / "README.md").write_text("a card")
    assert said_of(str(shutil.copytree(folder, tmp_path / "copy"))) == before
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert said_of(str(folder)) != before


def test_a_file_is_read_once_while_it_stays_the_same(tmp_path, monkeypatch):
    file, read = tmp_path / "net.pth", []
    file.write_bytes(b"one")
    monkeypatch.setattr(weight_files, "file_digest", lambda path: read.append(path) or file_digest(path))
    assert said_of(str(file)) == said_of(str(file)) and len(read) == 1
    times = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy that keeps times: same size, same time
    assert said_of(str(file)) == f"sha256:{file_digest(file)}" and len(read) == 2


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_gone_keeps_the_digest_it_had(tmp_path, kind):
    place = tmp_path / "net.pth"
    (place.mkdir() if kind == "folder" else None, (place / "a.bin" if kind == "folder" else place).write_bytes(b"one"))
    before = said_of(str(place))
    shutil.rmtree(place) if kind == "folder" else place.unlink()
    assert said_of(str(place)) == before
    assert said_of(str(tmp_path / "never.pth")) == str(tmp_path / "never.pth")


def test_a_hub_id_is_named_with_the_revision_that_is_here(tmp_path, monkeypatch):
    import huggingface_hub

    file = tmp_path / "snapshots" / "abc123" / "config.json"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda hub, name: str(file) if hub == "owner/net" else None)
    assert said_of("owner/net") == "owner/net@abc123"
    assert said_of("owner/other") == "owner/other" and said_of("imagenet") == "imagenet"


def test_arguments_without_weights_stay_as_they_are(tmp_path):
    for given in ({}, {"weights": None, "arch": "Unet"}, {"weights": "null"}):
        assert with_digests(given) == given
    (tmp_path / "w.pth").write_bytes(b"one")
    assert with_digests({"arch": "Unet", "weights": str(tmp_path / "w.pth")}) == {"arch": "Unet", "weights": said_of(str(tmp_path / "w.pth"))}
