"""What the README names exists: commands, strategies, files."""

import re
import shlex
from pathlib import Path

from synthrad import fusion
from synthrad.__main__ import LIGHTNING, VERBS
from synthrad.prepare import parser, readers

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_commands_exist():
    code = "\n".join(re.findall(r"```\n(.*?)```", TEXT, re.S)) + "\n" + "\n".join(re.findall(r"^\| `(synthrad[^`]*)`", TEXT, re.M))
    named = set(re.findall(r"^synthrad ([a-z\\|]+)", code, re.M))
    words = {w for n in named for w in re.split(r"[\\|]+", n)}
    assert {"prepare", "study", "fit", "sample"} <= words
    assert words <= {*VERBS, *LIGHTNING}


def test_strategies_exist():
    table = TEXT.split("| arm |")[1].split("\n\n")[0]
    names = set(re.findall(r"`([A-Z]\w+)`", table))
    assert len(names) >= 8
    assert names <= set(fusion.__all__)


def test_files_exist():
    paths = set(re.findall(r"(?:scripts|docs|configs|benchmarks|tests)/[\w./-]*\w", TEXT))
    missing = {p for p in paths if not (ROOT / p).exists()} - {"configs/studies/mine.yaml", "configs/studies/NAME.yaml"}
    assert not missing
    assert "docs/phantoms.png" in paths


def test_every_block_works_in_a_fresh_shell():
    blocks = [b for b in re.findall(r"```\n(.*?)```", TEXT, re.S) if re.search(r"^synthrad ", b, re.M)]
    assert blocks and all(b.startswith("source .venv/bin/activate") for b in blocks)


def test_commands_of_the_datasets_page_are_understood():
    text = (ROOT / "docs" / "datasets.md").read_text()
    lines = re.findall(r"^synthrad prepare (.*)$", text, re.M)
    assert {line.split()[0] for line in lines} == {*readers(), "check", "export"} - {"phantom"}
    for line in lines:
        parser().parse_args(shlex.split(line))  # exits on an unknown option
    options = set(re.findall(r"`(--[a-z-]+)", text))
    known = {o for command in parser()._subparsers._group_actions[0].choices.values() for o in command._option_string_actions}
    assert options <= known, options - known
