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
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthrad.audit.record import GATE, RECORD, VERSION, known_record, looks, write_record
from synthrad.dataset_info import HERE
from synthrad.errors import InputError
from synthrad.files import file_digest, write_durably
from synthrad.records import Manifest

if TYPE_CHECKING:
    from synthrad.audit.copying import Search
    from synthrad.audit.judged import Jury
    from synthrad.audit.membership_weights import Weights
    from synthrad.audit.rungs import Rung
    from synthrad.audit.shadows import Recipe
    from synthrad.audit.sides import Sides

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
    from synthrad.audit import membership_lira as lira
    from synthrad.audit.judged import Jury
    from synthrad.audit.membership_weights import load_weights
    from synthrad.audit.rungs import judge
    from synthrad.audit.sides import read_sides
    from synthrad.audit.spaces import load_space

    out, spaces, recipe = Path(out), [load_space(f) for f in features], _recipe(checkpoint, shadows, shadow_images, Path(out))
    digests = {"set_digest": drawn.digest, "whole_draw_digest": unfiltered.digest if unfiltered is not None else "",
               "checkpoint_digest": file_digest(checkpoint) if checkpoint is not None and Path(checkpoint).is_file() else "", "real_digest": real.digest}
    asked = [VERSION, *digests.values(), seed, trials, [s.identity for s in spaces], *([] if recipe is None else [lira.VERSION, recipe.number, recipe.images])]
    identity = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    _check_out(out, drawn, real, *([unfiltered] if unfiltered is not None else []))
    generator = None if checkpoint is None else load_weights(str(checkpoint), drawn, real)
    sides = read_sides(drawn, real)
    if (known := known_record(out, identity)) is not None:
        print(f"{out}: this set was audited already")
        return known
    sets = {"": sides}
    if unfiltered is not None:
        _check_draw(drawn, unfiltered)
        sets[" of the whole draw"] = read_sides(unfiltered, real)
    jury, number = Jury(sides, seed), _number(sets, generator, recipe)
    rungs, searches = _rungs_of_images(sets, jury, number, seed, trials)
    rungs += _rungs_of_weights(generator, recipe, sides, real, number, seed, trials)
    rungs = judge([*rungs, *_without_search(drawn, unfiltered)])
    alike = [row.to_dict() for row in likeness.of_sides(sides, spaces, seed)]
    out.mkdir(parents=True, exist_ok=True)
    _draw(out, sides, rungs, searches)
    banner = "; ".join(dict.fromkeys(s.banner for s in sets.values() if s.banner))
    return write_record(out, {"format": VERSION, "identity": identity, "set": drawn.info.name, "images": len(drawn), "real": real.info.name, **digests,
                              "seed": seed, "trials": trials, "banner": banner, "looks": looks(drawn, real, seed, trials), "rungs": [r.to_dict() for r in rungs],
                              "likeness": alike, **jury.sections(sides), "synthrad": version("synthrad")})


def _number(sets: Mapping[str, Sides], generator: Weights | None, recipe: Recipe | None) -> int:
    """Rungs of the whole audit, among which the level is divided."""
    from synthrad.audit.judged import RUNGS

    return sum(3 + (s.masks is not None) + RUNGS for s in sets.values()) + (0 if generator is None else len(generator.names)) + (recipe is not None)


def _rungs_of_images(sets: Mapping[str, Sides], jury: Jury, number: int, seed: int, trials: int) -> tuple[list[Rung], list[dict[str, Search]]]:
    """What sets give away themselves, and the searches by the names of their rungs, set by set."""
    from synthrad.audit.copying import copy_rungs
    from synthrad.audit.membership_nearest import nearest_rung

    rungs, searches = [], []
    for suffix, each in sets.items():
        made, found = copy_rungs(each, suffix, seed=seed, trials=trials, rungs=number)
        searches.append(found)
        rungs += [*made, nearest_rung(each, suffix, rungs=number, seed=seed, trials=trials), *jury.rungs(each, suffix, rungs=number, trials=trials)[0]]
    return rungs, searches


def _rungs_of_weights(generator: Weights | None, recipe: Recipe | None, sides: Sides, real: Manifest, number: int, seed: int, trials: int) -> list[Rung]:
    """What the generator itself gives away; [] without a checkpoint."""
    from synthrad.audit.membership_lira import lira_rung
    from synthrad.audit.membership_weights import weights_rungs

    if generator is None:
        return []
    rungs = weights_rungs(generator, sides.rows, real, rungs=number, seed=seed, trials=trials)
    return rungs if recipe is None else [*rungs, lira_rung(generator, sides.rows, recipe, rungs=number, seed=seed, trials=trials)]


def _without_search(drawn: Manifest, unfiltered: Manifest | None) -> list[Rung]:
    """What is known of a set from its lineage alone, and what nobody can know without its whole draw."""
    from synthrad.audit.rungs import Rung

    if unfiltered is None and "filter" in drawn.info.lineage.settings:
        return [*_from_patients(drawn), Rung("copies of the whole draw", reason="the set was filtered; give what it was filtered from with --unfiltered")]
    return _from_patients(drawn)


def _draw(out: Path, sides: Sides, rungs: Sequence[Rung], searches: Sequence[Mapping[str, Search]]) -> None:
    """copies.png of all searches, pairs.png of the set itself, which comes first."""
    from synthrad.audit.pictures import draw_audit, draw_pairs

    together = {name: found for each in searches for name, found in each.items()}
    own = next((each for each in searches if each), {})
    if together:
        write_durably(out / "copies.png", draw_audit([r for r in rungs if r.name in together], together))
        write_durably(out / "pairs.png", draw_pairs(sides, [r for r in rungs if r.name in own], own))


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
