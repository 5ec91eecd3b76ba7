"""The record of an audit: what was found, of which sets, under the project's key."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthrad.errors import InputError
from synthrad.files import read_facts, write_durably
from synthrad.lineage import project_folder, project_key
from synthrad.records import Manifest

VERSION = 10  # raise by hand when results change
RECORD, GATE = "audit.json", "gate.json"


def known_record(out: Path, identity: str) -> dict[str, Any] | None:
    """The record of this very audit, where `out` has it, unchanged."""
    known = read_facts(out / RECORD)
    return known if known.get("identity") == identity and known.get("mac") == _mac(known) else None


def write_record(out: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write audit.json; returns the record as it will be read back."""
    made = json.loads(json.dumps(dict(record)))
    made["mac"] = _mac(made)
    write_durably(out / RECORD, json.dumps(made, indent=1).encode())
    return made


def read_record(path: Path | str) -> dict[str, Any]:
    """A record as `synthrad audit` wrote it under this project's key.

    Raises:
        InputError: there is none, or it was changed since, or it comes from another project.
    """
    record = read_facts(Path(path))
    if not record:
        raise InputError(str(path), "no record of an audit", f"the {RECORD} that `synthrad audit` writes")
    if record.get("mac") != _mac(record):
        raise InputError(str(path), "a record that was changed since it was written, or that was made under another project's key",
                         "the file as `synthrad audit` wrote it", "audit the set again, in this project")
    if record.get("format") != VERSION:
        raise InputError(str(path), "an audit by another version of synthrad", f"one of format {VERSION}", "audit the set again")
    return record


def accepted_reasons(path: Path | str) -> dict[str, str]:
    """Rungs that did not pass and were accepted at the gate of this audit, with the reason that was written; {} without a gate."""
    record, gate = read_facts(Path(path)), read_facts(Path(path).with_name(GATE))
    accepted = gate.get("accepted")
    return dict(accepted) if isinstance(accepted, dict) and gate.get("identity") == record.get("identity") else {}


def looks(drawn: Manifest, real: Manifest, seed: int, trials: int) -> int:
    """How many audits this generator's sets had in this project so far, this one counted: whoever draws, splits the patients anew or changes the audit's
    seed, until one passes, has chosen what passes."""
    maker = sorted(f.digest for f in drawn.info.lineage.fitted if f.kind == "generator")
    path, mine = project_folder() / "audits.jsonl", {"maker": maker, "set": drawn.digest, "real": real.digest, "seed": seed, "trials": trials}
    text = path.read_text() if path.is_file() else ""
    known = []
    for line in text.splitlines():
        try:
            known.append(json.loads(line))
        except ValueError:
            continue  # half a line
    if mine not in known:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:  # one write at the end: audits beside each other lose no line
            file.write("\n" * (text != "" and not text.endswith("\n")) + json.dumps(mine) + "\n")
    same = [k for k in [*known, mine] if isinstance(k, dict) and k.get("maker") == maker and (maker or k.get("set") == drawn.digest)]
    return len({json.dumps([k.get("set"), k.get("real"), k.get("seed"), k.get("trials")]) for k in same})


def _mac(record: Mapping[str, Any]) -> str:
    """Of all that a record says, with the project's key: one that was changed by hand is not believed."""
    said = json.dumps({k: v for k, v in record.items() if k != "mac"}, sort_keys=True).encode()
    return hmac.new(project_key(), said, hashlib.sha256).hexdigest()
