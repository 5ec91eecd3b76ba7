"""What audits say of the synthetic sets of a study: found by the digest of the set, believed only with their seal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthrad.audit.record import RECORD, accepted_reasons, read_record
from synthrad.audit.rungs import ENOUGH_POWER, Rung
from synthrad.errors import InputError
from synthrad.records import Manifest
from synthrad.study.tables import Table

METRICS = {"kid": "KID", "frechet": "Fréchet distance", "vendi": "Vendi score"}
VERDICTS = ("fail", "inconclusive", "not tested", "pass")  # the worst first


@dataclass(frozen=True)
class SetAudit:
    """The audit of one synthetic set, or the command that makes it.

    Args:
        source, draw: of the study. command: what to type. refused: why a record that was found is not believed, "" = it is, or there is none.
        record: of `synthrad audit`; None = not audited. accepted: rung -> reason given at the gate.
        same_data: whether it was audited against the very table of this study.
        pictures: of the audit, relative to the run folder; they show patients.
    """

    source: str
    draw: int
    command: str
    refused: str = ""
    record: Mapping[str, Any] | None = None
    accepted: Mapping[str, str] = field(default_factory=dict)
    same_data: bool = True
    pictures: tuple[str, ...] = ()

    @property
    def rungs(self) -> list[Rung]:
        """Of the record; [] without one."""
        return [Rung.from_dict(r) for r in self.record["rungs"]] if self.record else []

    @property
    def where(self) -> str:
        """The set in words."""
        return self.source if self.draw == 0 else f"{self.source}, draw {self.draw}"

    def of_verdict(self, verdict: str) -> list[str]:
        """Names of the rungs with that verdict."""
        return [r.name for r in self.rungs if r.verdict == verdict]

    @property
    def passed(self) -> bool:
        """Whether every rung passed on a verified lineage, none by a mere reason."""
        return bool(self.rungs) and all(r.verdict == "pass" for r in self.rungs) and not self.record["banner"] and self.same_data

    @property
    def says(self) -> str:
        """Safe to share or not, in half a sentence about this set."""
        if self.record is None:
            return "was not audited" if not self.refused else "has no audit that can be believed"
        counted = {v: self.of_verdict(v) for v in VERDICTS}
        if failed := counted["fail"]:
            return f"FAILED its audit ({_names(failed)})"
        if self.passed:
            return f"passed all {len(self.rungs)} rungs of its audit"
        parts = [f"{len(counted['pass'])} of {len(self.rungs)} rungs passed"]
        parts += [f"{len(counted[v])} {v}" for v in ("inconclusive", "not tested") if counted[v]]
        doubts = [] if self.same_data else ["it was audited against another table"]
        doubts += ["its lineage is not verified"] if self.record["banner"] else []
        return f"is not shown to be safe ({', '.join(parts)}{''.join(f'; {d}' for d in doubts)})"


def _names(rungs: Sequence[str], most: int = 3) -> str:
    return ", ".join(rungs[:most]) + (f" and {len(rungs) - most} more" if len(rungs) > most else "")


def find_audits(folder: Path, pools: Mapping[str, Sequence[Manifest]], real: Manifest, manifest: str) -> list[SetAudit]:
    """The newest audit of each set that a study drew or imported; one that failed goes before those that did not.

    Args:
        folder: run folder; every audit.json below it is looked at. pools: source -> its sets, one a draw.
        real: the study's table; manifest: its folder, as the study file names it.
    """
    known, refused = {}, {}
    for path in sorted(folder.rglob(RECORD), key=lambda p: (p.stat().st_mtime_ns, p)):
        try:
            record = read_record(path)
            before = known.get(record["set_digest"])
            if before is None or not _failed(before[1]) or _failed(record):  # a set that failed once is not cleared by another seed
                known[record["set_digest"]] = path, record
        except InputError as e:
            refused[path] = e.found
    found = []
    for source, sets in pools.items():
        for draw, made in enumerate(sets):
            command = _command(folder, source, draw, made, manifest)
            path, record = known.get(made.digest, (None, None))
            if path is None:
                home = folder / "audits" / source / f"draw{draw}" / RECORD
                found.append(SetAudit(source, draw, command, refused.get(home, "")))
                continue
            shown = tuple(str(p.relative_to(folder)) for name in ("copies.png", "pairs.png") if (p := path.with_name(name)).is_file())
            found.append(SetAudit(source, draw, command, "", record, accepted_reasons(path), record["real_digest"] == real.digest, shown))
    return found


def _failed(record: Mapping[str, Any]) -> bool:
    return any(r["verdict"] == "fail" for r in record["rungs"])


def _command(folder: Path, source: str, draw: int, made: Manifest, manifest: str) -> str:
    """The command that audits a set, and where this report will find its record."""
    home = Path(made.info.roots["here"])
    whole = sorted(home.glob("round*/synthetic/dataset.yaml"))
    beside = f" --unfiltered {_short(whole[0].parent)}" if len(whole) == 1 and "filter" in made.info.lineage.settings else ""
    return f"synthrad audit {_short(home)} --real {manifest} --out {_short(folder / 'audits' / source / f'draw{draw}')}{beside} --gate"


def _short(path: Path) -> str:
    """Relative to the working folder where it lies in it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


LADDER = ("rung", "verdict", "Holm p", "AUC", "AUC low", "AUC high", "weakest claimed leak", "patients planted", "power there", "accepted because", "reason")
POWER = ("rung", "leak", "claimed", "patients planted", "found")


def ladder(audit: SetAudit) -> Table:
    """One line a rung: verdict, p, AUC of the attack with its interval, and the planted leak that it would have found least often."""
    rows = []
    for r in audit.rungs:
        auc = r.auc or (r.facts.get("auc"), None, None)
        weakest = r.weakest() if r.power and r.claims else (None, None)
        rows.append((r.name, r.verdict, r.adjusted, *auc, weakest[0], r.planted if weakest[0] else None, weakest[1], audit.accepted.get(r.name, ""),
                     r.certain or r.reason))
    return Table(f"audit_{audit.source}_draw{audit.draw}", f"Audit of {audit.where}", LADDER, rows)


def power(audit: SetAudit) -> Table:
    """How often each rung found each planted leak, by the number of patients planted."""
    rows = [(r.name, leak, "yes" if leak in r.claims else "no", number, rate) for r in audit.rungs for leak, rates in r.power.items()
            for number, rate in rates.items()]
    return Table(f"audit_power_{audit.source}_draw{audit.draw}", f"Power of the audit of {audit.where} on leaks that it planted", POWER, rows)


def views(audits: Sequence[SetAudit]) -> list[dict[str, Any]]:
    """What the report prints of each set."""
    out = []
    for a in audits:
        rungs = [{"rung": r, "auc": r.auc or (r.facts.get("auc"), None, None), "weakest": r.weakest() if r.power and r.claims else None,
                  "accepted": a.accepted.get(r.name, ""),
                  "power": [{"leak": leak, "claimed": leak in r.claims, "rates": rates} for leak, rates in r.power.items()]} for r in a.rungs]
        rows = [{**row, "name": METRICS.get(row["metric"], row["metric"].replace("_", " "))} for row in a.record["likeness"] if not row["group"]] if a.record else []
        out.append({"audit": a, "rungs": rungs, "likeness": rows, "enough": ENOUGH_POWER})
    return out
