"""Copy what a finished study found to benchmarks/results/, which is committed.

    python benchmarks/export_study.py runs/quickstart

study_<name>.jsonl has the summary lines; curves_<name>.jsonl, where a generator was checked while it trained, has those checks:
KID and adherence against images seen. Lines of an earlier run of that study are replaced. A line with an absolute path or the name of this machine is refused.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

from synthrad.errors import InputError
from synthrad.records import write_durably
from synthrad.study.pools import checkpoint_of, checks_of

RESULTS = Path(__file__).parent / "results"
CHECKS = ("fidelity", "adherence")  # callbacks that write a line every so many images
ABSOLUTE = re.compile(r"(?:^|[\s'\"=(:,])(?:/|~/|[A-Za-z]:[\\/])[\w.~-]+")


def texts(value: Any) -> list[str]:
    """Every string in a JSON value, keys included."""
    if isinstance(value, dict):
        return [t for k, v in value.items() for t in (k, *texts(v))]
    if isinstance(value, list):
        return [t for v in value for t in texts(v)]
    return [value] if isinstance(value, str) else []


def check(line: dict, where: str, host: str) -> None:
    """Refuse a line that says where it was made."""
    for text in texts(line):
        if ABSOLUTE.search(text):
            raise InputError(where, f"an absolute path: {text!r}", "lines that any machine could have written")
        if host and re.search(rf"(?<!\w){re.escape(host)}(?!\w)", text):
            raise InputError(where, f"the name of this machine: {text!r}", "lines that any machine could have written")


def export(run: Path, results: Path = RESULTS) -> Path:
    """Copy the lines; returns where they are now."""
    source = run / "summary.jsonl"
    if not source.is_file():
        raise InputError(str(source), "no such file", "the run folder of a finished study",
                         "run `synthrad study report configs/studies/NAME.yaml`")  # fmt: skip
    lines = [json.loads(line) for line in source.read_text().splitlines() if line]
    names = {line["study"] for line in lines}
    if len(names) != 1:
        raise InputError(str(source), f"lines of the studies {sorted(names)}", "lines of one study")
    for number, line in enumerate(lines, 1):
        check(line, f"{source}: line {number}", platform.node())
    study = names.pop()
    made = {k: lines[0][k] for k in ("versions", "cpu")}
    checks = curves(run, {"study": study, "mechanics": lines[0]["mechanics"], "report": made})
    for number, line in enumerate(checks, 1):
        check(line, f"{run}: check {number} of a generator", platform.node())
    path = results / f"study_{study}.jsonl"
    for where, found in ((path, lines), (results / f"curves_{study}.jsonl", checks)):
        if found:
            write_durably(where, "".join(json.dumps(line) + "\n" for line in found).encode())
            print(f"{where.name}: {len(found)} lines")
        else:
            where.unlink(missing_ok=True)  # of an earlier run
    return path


def curves(run: Path, stamp: dict[str, Any]) -> list[dict[str, Any]]:
    """The checks of the study's generators while they trained, without the draws behind an interval.

    `config_hash` is that of the generator's folder; `report` says what wrote the report, not what trained the generator.
    """
    found = []
    for source in sorted(p.parent.name for p in run.glob("sources/*/generator.json")):
        fit = checkpoint_of(run, source).parent.parent
        for name in CHECKS:
            for line in checks_of(run, source, name):
                kept = {k: v for k, v in line.items() if not k.endswith("_draws")}
                found.append({"check": name, "source": source, "config_hash": fit.name.rpartition("-")[2], **kept, **stamp})
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER", help="folder of a finished study, e.g. runs/quickstart")
    try:
        export(parser.parse_args(argv).run)
    except InputError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
