"""Copy what a finished study, or a fit of one generator, found to benchmarks/results/, which is committed.

    python benchmarks/export_study.py runs/quickstart
    python benchmarks/export_study.py runs/cxr_lungs_64          a folder of `synthrad fit`

study_<name>.jsonl has the summary lines; curves_<name>.jsonl, where a generator was checked while it trained, has those checks:
KID and adherence against images seen. Of a fit there are the curves only, under the name of its folder.
Lines of an earlier run of that name are replaced. A line with an absolute path or the name of this machine is refused.
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
from synthrad.files import write_durably
from synthrad.study.pools import checkpoint_of, checks_of
from synthrad.study.report import installed, processor

RESULTS = Path(__file__).parent / "results"
CHECKS = ("fidelity", "adherence", "reconstruction")  # callbacks that write a line every so many images
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
    if any((run / f"{name}.jsonl").is_file() for name in CHECKS):
        return export_fit(run, results)
    if not source.is_file():
        raise InputError(str(source), "no such file", "the run folder of a finished study, or of a fit with checks",
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


def export_fit(run: Path, results: Path) -> Path:
    """Copy the checks of one fit; returns where they are now."""
    stamp = {"fit": run.resolve().name, "report": {"versions": installed(), "cpu": processor()}}
    lines = [{"check": name, **kept(json.loads(x)), **stamp} for name in CHECKS if (run / f"{name}.jsonl").is_file()
             for x in (run / f"{name}.jsonl").read_text().splitlines() if x]
    for number, line in enumerate(lines, 1):
        check(line, f"{run}: check {number}", platform.node())
    path = results / f"curves_{run.resolve().name}.jsonl"
    write_durably(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    print(f"{path.name}: {len(lines)} lines")
    return path


def kept(line: dict[str, Any]) -> dict[str, Any]:
    """A check without the draws behind an interval."""
    return {k: v for k, v in line.items() if not k.endswith("_draws")}


def curves(run: Path, stamp: dict[str, Any]) -> list[dict[str, Any]]:
    """The checks of the study's generators while they trained, without the draws behind an interval.

    `config_hash` is that of the generator's folder; `report` says what wrote the report, not what trained the generator.
    """
    found = []
    for source in sorted(p.parent.name for p in run.glob("sources/*/generator.json")):
        fit = checkpoint_of(run, source).parent.parent
        for name in CHECKS:
            for line in checks_of(run, source, name):
                found.append({"check": name, "source": source, "config_hash": fit.name.rpartition("-")[2], **kept(line), **stamp})
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER", help="folder of a finished study, or of a fit")
    try:
        export(parser.parse_args(argv).run)
    except InputError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
