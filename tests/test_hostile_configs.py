"""Configs that name other people's code: it is neither imported nor run, and the refusal names the key.

All of them are in tests/gates/test_gate_configs.py.
"""

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

from forks import forks
from hostile_configs import Trap, configs, filters
from mutants import judged
from tiny_set import make

from synthrad.__main__ import main

pytestmark = forks


def commands(folder: Path, trap: Trap) -> list[tuple[str, list[str], str]]:
    """(name, command, standard input) of every hostile config and flag."""
    made = []
    for k, (name, text) in enumerate(configs(trap).items()):
        (folder / f"{k}.yaml").write_text(text)
        made.append((name, ["fit", "-c", str(folder / f"{k}.yaml")], ""))
    made += [(f"given in place: {name}", ["fit", f"--config={text}"], "") for name, text in list(configs(trap).items())[:2]]
    made += [(f"from stdin: {name}", ["fit", "--config", "/dev/stdin"], text) for name, text in list(configs(trap).items())[:2]]
    made += [("from the net", ["fit", "--config", "http://127.0.0.1:9/a.yaml"], ""), ("a flag", ["fit", "--model=evil.Thing"], ""),
             ("a flag for a callback", ["fit", "--model=StyleGAN2", "--trainer.callbacks=evil_callback.Thing"], ""),
             ("a nested file", ["fit", "--model", str(folder / "model.yaml")], "")]  # fmt: skip
    (folder / "model.yaml").write_text("class_path: evil.Thing\n")
    for k, (name, text) in enumerate(filters(trap).items()):
        (folder / f"f{k}.yaml").write_text(text)
        made.append((f"filter: {name}", ["filter", str(folder / "set"), str(folder / "out"), "--config", str(folder / f"f{k}.yaml")], ""))
    return made


def sprung(folder: Path, every: int = 1) -> tuple[int, list[str]]:
    """How many were tried, and what ran of which, or was taken without a word."""
    trap = Trap(folder / "trap")
    make(folder / "set", rows=8, source="synthetic")
    tried = commands(folder, trap)[::every]

    def take(case) -> str:
        _, argv, text = case
        sys.path.insert(0, str(trap.folder))
        os.chdir(trap.folder)
        with tempfile.TemporaryFile() as file, contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
            file.write(text.encode())
            file.seek(0)
            os.dup2(file.fileno(), 0)
            code = main(argv)
        imported = [m for m in sys.modules if m.startswith("evil")]
        if ran := trap.sprung() or ", ".join(imported):
            return f"ran {ran}"
        message = err.getvalue()
        return "" if code == 2 and "found" in message and "Traceback" not in message else f"exit code {code}: {message[:200]}"

    return len(tried), [f"{name}: {wrong}" for (name, *_), wrong in zip(tried, judged(tried, take), strict=True) if wrong]


def test_a_few_hostile_configs(tmp_path):
    assert sprung(tmp_path, every=4)[1] == []


def test_the_traps_spring_where_the_user_allows_them(tmp_path, monkeypatch):
    trap = Trap(tmp_path / "trap")
    monkeypatch.setenv("SYNTHRAD_ALLOW_IMPORT", "evil")
    (tmp_path / "a.yaml").write_text(configs(trap)["model, a module with effects"])

    def take(argv) -> str:
        sys.path.insert(0, str(trap.folder))
        with contextlib.redirect_stderr(io.StringIO()):
            main(argv)
        return trap.sprung()

    assert judged([["fit", "-c", str(tmp_path / "a.yaml")]], take) != [""]


def test_a_bomb_in_a_config_of_fit(tmp_path):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    (tmp_path / "a.yaml").write_text(bomb)

    def take(argv) -> str:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            code = main(argv)
        return "" if code == 2 and "repeat more than" in err.getvalue() else f"{code}: {err.getvalue()[:300]}"

    assert judged([["fit", "-c", str(tmp_path / "a.yaml")], ["fit", f"--config={bomb}"]], take) == ["", ""]
