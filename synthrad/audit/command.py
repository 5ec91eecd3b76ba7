"""Ask what a synthetic set gives away of the patients that its generator was trained on.

Training patients (members) are compared with test patients (non-members) that nothing has seen, patient by patient: if the
set resembles members more than chance allows, it leaks. Every question (rung) first shows its power on leaks that it plants itself;
without enough of it there is no pass. OUT gets audit.json, copies.png and pairs.png: look at the pairs.

With --checkpoint the weights are attacked as well: what of a generator is shared beside its images needs that. With --shadows N also by
generators of the same recipe, each trained on half of the training and test patients: the strongest attack, at the cost of N fits. Test patients
are learned from there as an attacker would learn from patients of his own; the shadows are thrown away, and nothing that is released meets them.

With --gate the exit code is 1 unless every rung passed, or was accepted by a written reason that the record keeps.
A pass says that these attacks at this size found nothing. It never says that patients cannot be recognised.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthrad.errors import InputError
from synthrad.lineage import project_folder, project_key
from synthrad.records import HERE, Manifest, file_digest, write_durably

if TYPE_CHECKING:
    from synthrad.audit.rungs import Rung
    from synthrad.audit.shadows import Recipe

VERSION = 8  # raise by hand when results change
RECORD, GATE = "audit.json", "gate.json"
SPACES = ("radiomics", "structure")


def audit(drawn: Manifest, real: Manifest, out: Path | str, *, unfiltered: Manifest | None = None, checkpoint: Path | str | None = None,
          shadows: int = 0, shadow_images: int | None = None, seed: int = 0, trials: int = 50, features: Sequence[str] = SPACES) -> dict[str, Any]:
    """Audit a set; a record of this very audit in `out` is read back.

    Args:
        drawn: the set as it would be released. real: the manifest that its generator was trained on (split train), with a test split.
        out: folder of the record and its pictures.
        unfiltered: the whole draw that `drawn` was filtered from: a filter of near copies hides what the generator memorised.
        checkpoint: of the set's own generator, for whoever shares its weights; None = they are not attacked, and no rung stands for that: a
            release of images alone does not need it.
        shadows: generators of its recipe that are trained for a likelihood ratio attack, 0 = none; they are kept in out/shadows, and a killed audit goes on
            after the last one. shadow_images: that each is shown; None = as many as the generator was.
        seed: of permutations and planted leaks. trials: self-tests for each leak and number of patients.
        features: spaces of fidelity, diversity and novelty: radiomics, structure, or configs of audit.spaces; subgroups in the first.

    Returns:
        the record: set, real, verdicts (rungs as dicts), banner, looks.

    Raises:
        InputError: sets that do not belong together, or too small to say anything.
    """
    from synthrad.audit import likeness
    from synthrad.audit.copying import copy_rungs
    from synthrad.audit.judged import RUNGS, Jury
    from synthrad.audit.membership_lira import lira_rung
    from synthrad.audit.membership_nearest import nearest_rung
    from synthrad.audit.membership_weights import load_weights, weights_rungs
    from synthrad.audit.pictures import draw_audit, draw_pairs
    from synthrad.audit.rungs import Rung, judge
    from synthrad.audit.sides import read_sides
    from synthrad.audit.spaces import load_space

    out, spaces = Path(out), [load_space(f) for f in features]
    whole = unfiltered.digest if unfiltered is not None else ""
    weights = file_digest(checkpoint) if checkpoint is not None and Path(checkpoint).is_file() else ""
    recipe = _recipe(checkpoint, shadows, shadow_images, out)
    asked = [VERSION, drawn.digest, whole, weights, real.digest, seed, trials, [s.identity for s in spaces]]
    asked += [] if recipe is None else [recipe.number, recipe.images]
    identity = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    _check_out(out, drawn, real, *([unfiltered] if unfiltered is not None else []))
    generator = None if checkpoint is None else load_weights(str(checkpoint), drawn, real)
    sides = read_sides(drawn, real)
    if (known := _read(out / RECORD)).get("identity") == identity and known.get("mac") == _mac(known):
        print(f"{out}: this set was audited already")
        return known
    sets = {"": sides}
    if unfiltered is not None:
        _check_draw(drawn, unfiltered)
        sets[" of the whole draw"] = read_sides(unfiltered, real)
    number = sum(3 + (s.masks is not None) + RUNGS for s in sets.values()) + (0 if generator is None else len(generator.names)) + (recipe is not None)
    jury = Jury(sides, seed)
    rungs, searches, own = [], {}, {}
    for suffix, each in sets.items():
        made, found = copy_rungs(each, suffix, seed=seed, trials=trials, rungs=number)
        rungs += made
        searches |= found
        own = own or found  # of the set itself, which comes first
        rungs.append(nearest_rung(each, suffix, rungs=number, seed=seed, trials=trials))
        rungs += jury.rungs(each, suffix, rungs=number, trials=trials)[0]
    if generator is not None:
        rungs += weights_rungs(generator, sides.rows, real, rungs=number, seed=seed, trials=trials)
    if recipe is not None:
        rungs.append(lira_rung(generator, sides.rows, recipe, rungs=number, seed=seed, trials=trials))
    rungs += _from_patients(drawn)
    if unfiltered is None and "filter" in drawn.info.lineage.settings:
        rungs.append(Rung("copies of the whole draw", reason="the set was filtered; give what it was filtered from with --unfiltered"))
    rungs = judge(rungs)
    alike = [row.to_dict() for row in likeness.of_sides(sides, spaces, seed)]
    out.mkdir(parents=True, exist_ok=True)
    if searches:
        write_durably(out / "copies.png", draw_audit([r for r in rungs if r.name in searches], searches))
        write_durably(out / "pairs.png", draw_pairs(sides, [r for r in rungs if r.name in own], own))
    record = {"format": VERSION, "identity": identity, "set": drawn.info.name, "set_digest": drawn.digest, "images": len(drawn), "whole_draw_digest": whole, "checkpoint_digest": weights,
              "real": real.info.name, "real_digest": real.digest, "seed": seed, "trials": trials, "banner": "; ".join(dict.fromkeys(s.banner for s in sets.values() if s.banner)),
              "looks": _looks(drawn, seed, trials), "rungs": [r.to_dict() for r in rungs],
              "likeness": alike, **jury.sections(sides), "synthrad": version("synthrad")}
    record = json.loads(json.dumps(record))  # as it will be read back
    record["mac"] = _mac(record)
    write_durably(out / RECORD, json.dumps(record, indent=1).encode())
    return record


def _recipe(checkpoint: Path | str | None, shadows: int, images: int | None, out: Path) -> Recipe | None:
    """How shadows are trained; None = there are none."""
    from synthrad.audit.shadows import Recipe

    if not shadows:
        if images is not None:
            raise InputError("--shadow-images", "no --shadows", "both", "say how many shadows")
        return None
    if checkpoint is None:
        raise InputError("--shadows", "no --checkpoint", "the generator whose recipe they follow", "give --checkpoint")
    return Recipe(shadows, images, out / "shadows")


def _check_out(out: Path, *sets: Manifest) -> None:
    """The record names training patients and shows their images: it must not lie in what is shared."""
    for folder in (Path(m.info.roots[HERE]).resolve() for m in sets if HERE in m.info.roots):
        if out.resolve() == folder or folder in out.resolve().parents:
            raise InputError("--out", str(out), f"a folder outside {folder}", "the record names and shows training patients: keep it apart")


def _check_draw(drawn: Manifest, whole: Manifest) -> None:
    """`whole` is what `drawn` was filtered from."""
    makers = lambda m: {f.digest for f in m.info.lineage.fitted if f.kind == "generator"}  # noqa: E731
    missing = len(set(drawn.column("digest")) - set(whole.column("digest")))
    if missing or makers(drawn) != makers(whole) or "filter" in whole.info.lineage.settings:
        found = f"a set that lacks {missing} images of SYNTHETIC" if missing else "a set that was filtered itself, or of another generator"
        raise InputError("--unfiltered", found, "the whole draw that SYNTHETIC was filtered from", "give the folder that `synthrad sample` wrote")


def _from_patients(drawn: Manifest) -> list[Rung]:
    """What a set takes from training patients by its making needs no search."""
    from synthrad.audit.rungs import Rung

    kinds = {f.kind for f in drawn.info.lineage.fitted}
    said = [f"{what} are those of training patients" for kind, what in (("masks", "its masks"), ("start images", "the images it starts from"))
            if kind in kinds]
    return [Rung("made from patients", certain=" and ".join(said))] if said else []


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_record(path: Path | str) -> dict[str, Any]:
    """A record as `synthrad audit` wrote it under this project's key.

    Raises:
        InputError: there is none, or it was changed since, or it comes from another project.
    """
    record = _read(Path(path))
    if not record:
        raise InputError(str(path), "no record of an audit", f"the {RECORD} that `synthrad audit` writes")
    if not hmac.compare_digest(str(record.get("mac")), _mac(record)):
        raise InputError(str(path), "a record that was changed since it was written, or that was made under another project's key",
                         "the file as `synthrad audit` wrote it", "audit the set again, in this project")
    if record.get("format") != VERSION:
        raise InputError(str(path), "an audit by another version of synthrad", f"one of format {VERSION}", "audit the set again")
    return record


def accepted_reasons(path: Path | str) -> dict[str, str]:
    """Rungs that did not pass and were accepted at the gate of this audit, with the reason that was written; {} without a gate."""
    record, gate = _read(Path(path)), _read(Path(path).with_name(GATE))
    return dict(gate.get("accepted", {})) if gate and gate.get("identity") == record.get("identity") else {}


def _mac(record: Mapping[str, Any]) -> str:
    """Of all that a record says, with the project's key: one that was changed by hand is not believed."""
    said = json.dumps({k: v for k, v in record.items() if k != "mac"}, sort_keys=True).encode()
    return hmac.new(project_key(), said, hashlib.sha256).hexdigest()


def _looks(drawn: Manifest, seed: int, trials: int) -> int:
    """How many audits this generator's sets had in this project so far, this one counted: whoever draws, or changes the audit's seed, until
    one passes has chosen what passes."""
    maker = sorted(f.digest for f in drawn.info.lineage.fitted if f.kind == "generator")
    path, mine = project_folder() / "audits.jsonl", {"maker": maker, "set": drawn.digest, "seed": seed, "trials": trials}
    lines = path.read_text().splitlines() if path.is_file() else []
    known = []
    for line in lines:
        try:
            known.append(json.loads(line))
        except ValueError:
            continue  # half a line
    if mine not in known:
        write_durably(path, "\n".join([*lines, json.dumps(mine)]).encode() + b"\n")
    same = [k for k in [*known, mine] if isinstance(k, dict) and k.get("maker") == maker and (maker or k.get("set") == drawn.digest)]
    return len({(k["set"], k.get("seed"), k.get("trials")) for k in same})


def told(record: Mapping[str, Any], rungs: Sequence[Rung]) -> str:
    """The record for a reader."""
    from synthrad.audit.judged import told as sections

    lines = [f"{record['set']}: {record['images']} images, audited against {record['real']}"]
    if record["banner"]:
        lines.append(f"NOT VERIFIED: {record['banner']}")
    if record["looks"] > 1:
        lines.append(f"This is audit number {record['looks']} of this generator's sets here: a pass after several draws or seeds means less.")
    wide = max(len(r.name) for r in rungs)
    for rung in rungs:
        p = "" if rung.adjusted is None else f" (p = {rung.adjusted:.2g})"
        lines += textwrap.wrap(f"{rung.name:<{wide}}  {rung.verdict.upper() if rung.verdict == 'fail' else rung.verdict}{p}: {rung.reason}",
                               130, subsequent_indent=" " * (wide + 4))
        if rung.verdict == "fail":
            lines += [" " * (wide + 4) + _pair(m) for m in rung.facts.get("matches", ())]
    if not record["checkpoint_digest"]:
        lines.append("The generator's weights were not attacked (--checkpoint): this says nothing on sharing its checkpoint.")
    return "\n".join([*lines, *sections(record)])


def _pair(match: Mapping[str, Any]) -> str:
    return (f"training patient {match.get('subject', '?')} ({match.get('real', '')}) and {match.get('synthetic', '')}: {match['similarity']:.3f}, "
            f"above {match['above_non_members']:.0%} of the test patients")


def parser() -> argparse.ArgumentParser:
    """Flags of `synthrad audit`."""
    p = argparse.ArgumentParser(prog="synthrad audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("synthetic", metavar="SYNTHETIC", help="manifest folder of the set, as it would be released")
    p.add_argument("--real", required=True, help="manifest folder that its generator was trained on, with a test split")
    p.add_argument("--out", required=True, help="folder of the record and its pictures")
    p.add_argument("--unfiltered", metavar="DRAW", help="manifest folder that SYNTHETIC was filtered from: a filter hides what was memorised")
    p.add_argument("--features", nargs="+", default=SPACES, metavar="SPACE",
                   help="in which fidelity, diversity and novelty are measured: radiomics, structure (the default: both; no weights), or a config such as "
                   "configs/features/timm.yaml; classes and subgroups in the first")
    p.add_argument("--checkpoint", metavar="CKPT", help="of the generator that drew SYNTHETIC: attack its weights, which may be shared only then")
    p.add_argument("--shadows", type=int, default=0, metavar="N", help="with --checkpoint: train N generators of its recipe (an even number, at least 8) on random halves "
                   "of the training and test patients for a likelihood ratio attack; they are kept in OUT/shadows, and a killed audit goes on after the last (0)")
    p.add_argument("--shadow-images", type=int, metavar="IMAGES", help="that each shadow is shown (as many as the checkpoint was)")
    p.add_argument("--seed", type=int, default=0, help="of permutations and planted leaks (0)")
    p.add_argument("--trials", type=int, default=50, help="self-tests for each leak and number of patients (50)")
    p.add_argument("--gate", action="store_true", help="exit with 1 unless every rung passed or was accepted")
    p.add_argument("--accept", action="append", default=[], metavar="RUNG=REASON", help="with --gate: release although this rung did not pass")
    return p


def run(argv: list[str]) -> int:
    """Run `synthrad audit`."""
    from synthrad.audit import likeness_table
    from synthrad.audit.rungs import Rung, gate

    args = parser().parse_args(argv)
    if args.trials < 20:
        raise InputError("--trials", str(args.trials), "at least 20: a power of 80 % must be seen")
    accepted = dict(a.partition("=")[::2] for a in args.accept)
    if accepted and not args.gate:
        raise InputError("--accept", "a reason without --gate", "both", "add --gate")
    record = audit(Manifest.read(args.synthetic), Manifest.read(args.real), args.out, seed=args.seed, trials=args.trials, features=args.features,
                   checkpoint=args.checkpoint, shadows=args.shadows, shadow_images=args.shadow_images, unfiltered=Manifest.read(args.unfiltered) if args.unfiltered else None)
    rungs = [Rung.from_dict(r) for r in record["rungs"]]
    print(told(record, rungs))
    print(likeness_table.told(record["likeness"]))
    print(f"record: {Path(args.out) / RECORD}")
    if not args.gate:
        return 0
    against = gate(rungs, record["banner"], accepted)
    write_durably(Path(args.out) / GATE, json.dumps({"identity": record["identity"], "set_digest": record["set_digest"],
                                                          "accepted": accepted, "against": against}, indent=1).encode())
    if against:
        print("gate: CLOSED\n  " + "\n  ".join(against), file=sys.stderr)
        return 1
    print("gate: open" + (f"; accepted by hand: {', '.join(accepted)}" if accepted else ""))
    return 0
