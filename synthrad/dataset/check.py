"""`synthrad prepare check MANIFEST`: is every file what the manifest says, what does the set hold, and what does it speak for?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthrad.errors import InputError, InputErrors
from synthrad.files import write_durably
from synthrad.manifest_table import SPLITS
from synthrad.records import Manifest

DESCRIPTION = "open every file of a manifest; fingerprint, recommended settings, and a page with pictures"
SHOWN = 12  # doubts printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("manifest", metavar="MANIFEST", help="folder that `synthrad prepare` wrote")
    parser.add_argument("--out", metavar="FOLDER", help="where check.html and check.json go (default: the manifest's folder); "
                        "the page shows patients")
    parser.add_argument("--against", nargs="+", default=(), metavar="OTHER", help="manifests of other sets: looks for images that this set shares with each, "
                        "re-encoded, mirrored, cropped and rescaled ones too, and says what must not train what")
    parser.add_argument("--study", metavar="FILE", help="also write a study file to start from, with the recommended settings")


def run(args: argparse.Namespace) -> int:
    """Check, print, write.

    Raises:
        InputErrors: every fault of the files at once.
    """
    from synthrad.dataset.against import compare, read_others
    from synthrad.dataset.fingerprint import fingerprint
    from synthrad.dataset.integrity import inspect, kinds
    from synthrad.dataset.page import write_page
    from synthrad.dataset.recommend import recommend

    manifest = Manifest.read(args.manifest)
    if not len(manifest):
        raise InputError(str(args.manifest), "a manifest without rows", "at least one image", "run `synthrad prepare` on more")
    given = read_others(manifest, args.against)
    seen = inspect(manifest)
    if seen.faults:
        raise InputErrors(str(Path(args.manifest) / "manifest.csv"), seen.faults)
    found = fingerprint(manifest, seen)
    real = (manifest.column("source") == "real").all()
    advice = recommend(manifest, found) if real else None
    others = compare(manifest, given)
    if args.study:
        _write_study(Path(args.study), advice)
    out = Path(args.out or args.manifest)
    told = {"doubts": list(map(str, seen.doubts)), **({"against": [a.facts() for a in others]} if others else {})}
    write_durably(out / "check.json", json.dumps(found | told, indent=1).encode())
    page = write_page(out / "check.html", manifest, seen, found, advice, others)
    lines = [*_told(found), *(f"  doubt: {d}" for d in kinds(seen.doubts, SHOWN)), *(line for a in others for line in a.lines())]
    if advice:
        lines += [f"  {line}" for line in (*advice.reasons, *advice.cautions)]
        lines += [f"  arm {name}: {rows} rows added" for name, (rows, _) in advice.arms.items() if rows]
    print("\n".join([*lines, f"wrote {page} (it shows patients) and {out / 'check.json'}" if real else f"wrote {page} and {out / 'check.json'}"]))
    return 0


def _told(found: Mapping[str, Any]) -> list[str]:
    sizes = found["sizes"]
    splits = "  ".join(f"{s} {found['splits'][s]['images']} ({found['splits'][s]['subjects']})" for s in SPLITS if found["splits"][s]["images"])
    lines = [f"{found['name']}: {found['images']} images of {found['subjects']} subjects, every file as the manifest says", f"  {splits}",
             f"  {sizes['width']['least']:.0f} to {sizes['width']['most']:.0f} px wide, {sizes['height']['least']:.0f} to {sizes['height']['most']:.0f} px tall"]
    for name, facts in found["intensities"].items():
        q = facts["quantiles"]
        lines.append(f"  channel {name}: half of the pixels below {q['0.5']}, 99 % from {q['0.005']} to {q['0.995']}")
    return lines + [f"  {column}: unknown in {100 * share:.0f} % of the rows" for column, share in found["missing"].items()]


def _write_study(path: Path, advice: Any) -> None:
    import yaml

    if advice is None:
        raise InputError("--study", "a synthetic set", "a real one: a study's synthetic sets are its sources")
    if path.exists():
        raise InputError("--study", f"{path}, which exists", "a new file", "name another, or delete it")
    if not advice.study["tasks"]:
        raise InputError("--study", "a set without labels and masks", "something that a net can learn", "prepare it with --labels or --mask")
    head = (f"# synthrad study run {path}\n# Written by `synthrad prepare check` from the fingerprint of {advice.study['manifest']}: a start, not a protocol. Declare the endpoint\n"
            "# and the smallest relevant difference yourself before the first fit.\n")
    write_durably(path, (head + yaml.safe_dump(dict(advice.study), sort_keys=False, width=120, default_flow_style=None)).encode())
