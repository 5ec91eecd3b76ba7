"""Paths that strangers wrote, in tables, annotations and manifests: nothing outside the root is opened, read or written.

The many are in tests/gates/test_gate_paths.py.
"""

import csv
import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from forks import forks
from mutants import judged, told
from PIL import Image
from test_hostile_files import dentex, table
from tiny_set import make

from synthrad.data.cache import ImageCache
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.records import Manifest

pytestmark = forks
LONG = "x" * 300


def world(folder: Path) -> tuple[Path, Path]:
    """A root with links out of it, and beside it what it must not reach: root, secret file."""
    root, outside = folder / "root", folder / "outside"
    outside.mkdir(parents=True)
    pixels = np.zeros((24, 32), np.uint8)
    pixels[3:7, 5:9] = 255
    Image.fromarray(pixels).save(outside / "secret.png")
    (folder / "rooted").mkdir()
    (folder / "rooted" / "secret.png").write_bytes((outside / "secret.png").read_bytes())
    return root, outside / "secret.png"


def links(root: Path, target: Path) -> None:
    """Links of every kind, a pipe and a folder, in a root that is there."""
    (root / "sub").mkdir()
    (root / "link.png").symlink_to(target)
    (root / "sub" / "relative.png").symlink_to(os.path.relpath(target, root / "sub"))
    (root / "away").symlink_to(target.parent, target_is_directory=True)
    (root / "twice").symlink_to("away", target_is_directory=True)
    (root / "loop").symlink_to("loop")
    (root / "up").symlink_to("..", target_is_directory=True)
    (root / "null.png").symlink_to("/dev/null")
    (root / "zero.png").symlink_to("/dev/zero")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")


def hostile(root: Path, target: Path) -> list[str]:
    """Names that lead to the target, elsewhere or nowhere."""
    near, absolute = f"../{target.parent.name}/{target.name}", str(target)
    return [
        near, f"./{near}", f"sub/../{near}", f"sub/../../{near[3:]}", f"nowhere/../{near}", f"sub//..//{near}", near.replace("/", "\\"), f"{near}/", f" {near}", f"{near} ",
        absolute, f"/{absolute}", f"/.{absolute}", f"{root}/{near}", f"{root}/./{near}", f"file://{absolute}", f"C:{absolute}", "C:\\secret.png", "C:/secret.png",
        f"\\\\?\\{absolute}", "\\\\host\\share\\secret.png", "//host/share/secret.png", f"{root}ed/secret.png", "../rooted/secret.png",
        "link.png", "sub/relative.png", "away/secret.png", "twice/secret.png", "up/outside/secret.png", "sub/../link.png", "loop", "loop/secret.png", "null.png", "zero.png",
        "pipe.png", "folder.png", ".", "..", "../", "/", "sub/..", "~/secret.png", "~root/secret.png", "$HOME/secret.png", "${PWD}/../outside/secret.png", f"{near}\0.png", f"0.png\0{near}",
        "\0", f"{LONG}.png", "/".join(["x"] * 3000), f"{LONG}/../{near}", "0.png/../" + near, "..%2foutside%2fsecret.png", "%2e%2e/outside/secret.png",
        "\u2024\u2024/outside/secret.png", "\uff0e\uff0e/outside/secret.png", "/dev/zero", "/dev/stdin", "/proc/self/environ", "/etc/passwd", "http://127.0.0.1:9/secret.png",
        "con", "nul.png", "secret.png::$DATA", "-", "--root=/", "*", "?", "\n", "a\nb", "\ufeff../outside/secret.png", "\u202egnp.terces",
    ]  # fmt: skip


class Watch:
    """Files that were opened beneath a folder or at a device, by an audit hook that cannot be removed again: use it in a fork."""

    def __init__(self, *places: Path):
        self.places, self.opened = tuple(str(p) for p in places), []
        sys.addaudithook(self._see)

    def _see(self, event: str, args: tuple) -> None:
        if event in ("open", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.mkdir", "os.link", "os.symlink", "shutil.copyfile") and isinstance(args[0], str | bytes):
            path = os.path.realpath(os.fsdecode(args[0]))
            if path.startswith(self.places):
                self.opened.append(f"{event} {path}")


def in_table(column: str):
    def put(root: Path, target: Path):
        path, argv = table(root)
        links(root, target)
        rows = list(csv.DictReader(open(path)))

        def take(name: str) -> str:
            rows[2][column] = name
            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            return told(argv, path.name)

        return take

    return put


def in_annotations(root: Path, target: Path):
    path, argv = dentex(root)
    links(root, target)
    sound = json.loads(path.read_text())

    def take(name: str) -> str:
        sound["images"][2]["file_name"] = name
        path.write_text(json.dumps(sound))
        return told(argv, path.name)

    return take


def in_manifest(column: str, place: str):
    def put(root: Path, target: Path):
        make(root, rows=12)
        links(root, target)
        digest = file_digest(target)
        text, meta = (root / "manifest.csv").read_text(), yaml.safe_load((root / "dataset.yaml").read_text())

        def take(name: str) -> str:
            rows = list(csv.DictReader(text.splitlines()))
            rows[0] |= {column: name, place: digest}
            with open(root / "manifest.csv", "w", newline="", encoding="utf-8", errors="surrogatepass") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            meta["digest"] = hashlib.sha256((root / "manifest.csv").read_bytes()).hexdigest()
            (root / "dataset.yaml").write_text(yaml.safe_dump(meta))
            try:
                ImageCache(Manifest.read(root), (32, 32), root.parent / "cache")
            except InputError as e:
                return "" if str(e).strip() else "a refusal without a reason"
            return f"{name!r} was read" if column == "channel:image" else ""

        return take

    return put


PLACES = {"csv, image": in_table("image"), "csv, mask": in_table("mask"), "DENTEX": in_annotations,
          "manifest, image": in_manifest("channel:image", "digest"), "manifest, mask": in_manifest("mask:tooth", "mask_digest")}  # fmt: skip


def escapes(place: str, folder: Path, every: int = 1) -> tuple[int, list[str]]:
    """How many names were tried at a place, and which of them led out."""
    root, target = world(folder)
    take = PLACES[place](root, target)
    names = hostile(root, target)[::every]
    before = {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if root not in (p, *p.parents)}
    watches: list[Watch] = []

    def watched(name: str) -> str:
        if not watches:  # once in each fork
            watches.append(Watch(folder / "outside", folder / "rooted", Path("/dev/zero"), Path("/dev/stdin"), Path("/etc/passwd"), Path("/proc/self/environ")))
        wrong = take(name)
        opened, watches[0].opened = watches[0].opened, []
        return wrong or "; ".join(opened)

    lost = [f"{place}, {name[:60]!r}: {wrong}" for name, wrong in zip(names, judged(names, watched), strict=True) if wrong]
    after = {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if root not in (p, *p.parents) and folder / "cache" not in (p, *p.parents)}
    lost += [f"{place}: {p} is there or changed" for p in {k for k, _ in before.items() ^ after.items()}]
    lost += [f"{place}: the secret is in {p}" for p in sorted((root / "out").rglob("*.png")) if np.array_equal(np.asarray(Image.open(p)) > 0, np.asarray(Image.open(target)) > 0)]
    return len(names), lost


@pytest.mark.parametrize("place", PLACES)
def test_a_few_hostile_paths(tmp_path, place):
    number, lost = escapes(place, tmp_path, every=5)
    assert number > 10 and lost == []


def test_the_watch_sees_what_is_opened(tmp_path):
    root, target = world(tmp_path)
    root.mkdir()
    links(root, target)

    def take(name):
        watch = Watch(target.parent)
        if name:
            (root / name).read_bytes()
        return "; ".join(watch.opened)

    assert [bool(w) for w in judged(["", "away/secret.png", "link.png"], take)] == [False, True, True]


def test_names_of_layers_and_classes_do_not_become_paths(tmp_path):
    path, argv = dentex(tmp_path / "set")
    sound = json.loads(path.read_text())
    for name, good in [("a\nb", False), ("", False), ("y" * 300, False), ("../../x", True), ("/etc", True)]:
        sound["categories_3"][0]["name"] = name
        path.write_text(json.dumps(sound))
        assert (told(argv, "") == "") and (tmp_path / "set" / "out" / "dataset.yaml").exists() == good
    assert {p.name for p in tmp_path.iterdir()} == {"set"}
