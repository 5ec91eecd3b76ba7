"""Write the dataset card of a synthetic set: what it is, who made it from what, what an audit found, and what it must not be used for.

The card is for those who get the set. It names no patient and no training image: of the lineage it tells kinds, digests and counts. An
audit has to be of exactly this set; where its gate is not open, the card begins with that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.audit.record import accepted_reasons, read_record
from synthrad.audit.rungs import Rung, gate
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.lineage import Lineage
from synthrad.records import Manifest

CARD = "README.md"  # what the Hugging Face hub calls it
SETTINGS = ("truncation", "sampler", "sampler_steps", "guidance", "guidance_interval", "strength", "mask_transform", "dtype", "block_size")  # no other is printed
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
PROHIBITED = (
    "diagnosis, treatment or any decision about a patient; this is no medical device",
    "any attempt to find out who the training patients are, or whether somebody was one",
    "presenting these images as those of patients, or mixing them into a test set",
    "calling a device validated because it works on them",
)
TEMPLATE = """---
{{ card_data }}
---

# {{ name }}

{% if against %}**NOT CLEARED FOR RELEASE** by the gate of its audit: {{ against|join("; ") }}.

{% endif -%}
{{ images }} synthetic images, drawn by a model.{{ patients }} What was found of patients' images in them stands under Audit.

## What it holds

{{ holds }}

## Source data

{{ source }}

## How it was made

{{ made }}

## Audit

{{ audit }}

## Fidelity and diversity

{{ likeness }}

## Licences

{{ licences }}

## Prohibited uses

{% for line in prohibited %}- {{ line }}
{% endfor %}
"""


def card(made: Manifest, record: Mapping[str, Any], accepted: Mapping[str, str], licence: str = "") -> str:
    """The card as Markdown with the hub's header.

    Args:
        made: the set. record: of its audit, as `read_record` gives it. accepted: rung -> reason, as at the gate. licence: of the set; "" = none was given.

    Raises:
        InputError: the audit is of another set.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    if (digest := made.digest) != record["set_digest"]:
        raise InputError("--audit", f"an audit of another set ({record['set']}, digest {record['set_digest'][:16]})", f"one of this set, digest {digest[:16]}",
                         "audit exactly what is released: `synthrad audit`")
    rungs = [Rung.from_dict(r) for r in record["rungs"]]
    accepted = {k: v for k, v in accepted.items() if k in {r.name for r in rungs} and v.strip()}
    data = DatasetCardData(license=licence or "unknown", pretty_name=made.info.name, size_categories=[_size(len(made))],
                           tags=["medical", "radiology", "synthetic"])
    text = DatasetCard.from_template(
        data, template_str=TEMPLATE, name=_line(made.info.name), against=[_line(x) for x in gate(rungs, record["banner"], accepted)], images=len(made), patients=_patients(made.info.lineage), holds=_holds(made),
        source=_source(made, record), made=_made(made.info.lineage), audit=_audit(record, rungs, accepted), likeness=_likeness(record["likeness"]),
        licences=_licences(made, licence), prohibited=PROHIBITED)
    return str(text).rstrip() + "\n"


def _size(images: int) -> str:
    return next((name for most, name in SIZES if images < most), "n>1M")


def _line(text: Any) -> str:
    """On one line, and no table is broken by it."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_line(c) for c in row)} |" for row in lines)


def _holds(made: Manifest) -> str:
    rows = []
    for prefix, names in (("label", made.info.classes), ("area", made.names("area"))):
        for name in names:
            values = made.column(f"{prefix}:{name}").astype(float)
            rows.append((name, int((values > 0).sum()), int((~np.isnan(values)).sum())))
    layers = "; ".join(f"{layer}: {', '.join(names)}" for layer, names in made.info.layers.items())
    said = [f"Channels: {', '.join(made.info.channels)}."]
    said += [f"Masks (pixel k is the k-th structure of its layer, 0 is background): {layers}."] if layers else ["No masks."]
    said += ["Labels and masks are what was asked for or drawn along, not what a reader found."]
    return "\n\n".join([" ".join(said), *([_table(("class or structure", "images with it", "images where it is known"), rows)] if rows else [])])


def _source(made: Manifest, record: Mapping[str, Any]) -> str:
    people = len(made.info.lineage.trained_on())
    counted = f" {people} patients were trained on." if people else " How many patients were trained on is not known."
    return f"Made from the dataset {_line(record['real'])} (id {_line(made.info.id)}).{counted} Its images are not part of this set."


def _made(lineage: Lineage) -> str:
    rows = [(f.kind, f.origin, f.digest[:16] or "–", len(f.trained_on) or "–", len(f.selected_on) or "–") for f in lineage.fitted]
    text = _table(("part", "origin", "digest of its checkpoint", "patients trained on", "patients selected on"), rows) if rows else "Nothing is known of how it was made."
    settings = [f"{k} {lineage.settings[k]}" for k in SETTINGS if k in lineage.settings]
    text += f"\n\nDrawn with {_line(', '.join(settings))}." if settings else ""
    return text + f"\n\n{_filter(lineage.settings.get('filter'))}"


def _patients(lineage: Lineage) -> str:
    """What the set takes from training patients by its making."""
    kinds = {f.kind for f in lineage.fitted}
    taken = [what for kind, what in (("masks", "their masks are those of training patients"), ("start images", "they were made by changing images of training patients"))
             if kind in kinds]
    return f" **They show patients: {' and '.join(taken)}.**" if taken else ""


def _filter(config: Any) -> str:
    if not isinstance(config, Mapping):
        return "Nothing was filtered out."
    options = config.get("init_args") or {}
    told = ", ".join(f"{k} = {Path(v).name if isinstance(v, str) else v}" for k, v in options.items() if isinstance(v, int | float | str | bool))
    return f"Filtered by {_line(config.get('class_path', 'a filter'))}{f' ({_line(told)})' if told else ''}."


def _audit(record: Mapping[str, Any], rungs: Sequence[Rung], accepted: Mapping[str, str]) -> str:
    rows = []
    for r in rungs:
        leak = "{1:.0%}, {0} ({2} patients planted)".format(*r.weakest(), r.planted) if r.power and r.claims else "–"
        auc = "–" if r.auc is None else "{:.2f} [{:.2f}, {:.2f}]".format(*r.auc)
        rows.append((r.name, r.verdict, "–" if r.adjusted is None else f"{r.adjusted:.2g}", auc, leak, accepted.get(r.name, "")))
    head = ("rung", "verdict", "p (Holm)", "AUC of the attack", "power on the weakest claimed leak", "accepted because")
    said = [f"Training patients were compared with patients whom nothing has seen (synthrad {record['synthrad']}, {record['trials']} trials a planted leak). A pass says that "
            "these attacks found nothing and would have found planted copies with the power that is printed; it never says that nobody can be recognised.", _table(head, rows)]
    if record["banner"]:
        said.append(f"Not verified: {_line(record['banner'])}.")
    if record["looks"] > 1:
        said.append(f"This was audit number {record['looks']} of this generator's sets: a pass after several draws or seeds means less.")
    return "\n\n".join(said)


def _likeness(found: Sequence[Mapping[str, Any]]) -> str:
    """All images, one line a number; classes and subgroups stay in the record."""
    def number(row: Mapping[str, Any], key: str) -> str:
        low, high = (row.get(f"{'null_' if key == 'null' else ''}{side}") for side in ("low", "high"))
        value = "–" if row[key] is None else f"{row[key]:.3g}"
        return value if low is None or high is None else f"{value} [{low:.3g}, {high:.3g}]"

    rows = [(row["space"], row["metric"].replace("_", " "), *((number(row, "value"), number(row, "null"), row["best"]) if not row["reason"] else
             (f"not tested: {row['reason']}", "–", "–"))) for row in found if not row["group"]]
    return "Beside the same number for as many real images in the set's place.\n\n" + _table(("features", "metric", "this set", "real images", "perfect would be"), rows)


def _licences(made: Manifest, licence: str) -> str:
    own = f"This set: {_line(licence)}." if licence else "This set: no licence was given; without one nobody may use it."
    return f"{own} The source data, as stated there: {_line(made.info.licence) or 'not stated'}; it may bind what is made from it."


def parser() -> argparse.ArgumentParser:
    """Flags of `synthrad card`."""
    p = argparse.ArgumentParser(prog="synthrad card", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("synthetic", metavar="SYNTHETIC", help="manifest folder of the set, as it would be released")
    p.add_argument("--audit", required=True, metavar="RECORD", help="audit.json of exactly this set; reasons in gate.json beside it are repeated")
    p.add_argument("--licence", default="", help="of the set, as the hub writes it (cc-by-4.0); left out: the card says that there is none")
    p.add_argument("--out", type=Path, help=f"file to write (SYNTHETIC/{CARD})")
    return p


def run(argv: list[str]) -> int:
    """Run `synthrad card`."""
    args = parser().parse_args(argv)
    made = Manifest.read(args.synthetic)
    out = args.out or Path(args.synthetic) / CARD
    write_durably(out, card(made, read_record(args.audit), accepted_reasons(args.audit), args.licence).encode())
    print(f"card: {out}")
    if made.info.lineage.trained_on() or made.info.lineage.fingerprints():
        print("The card names no patient; dataset.yaml and manifest.csv of the set still hold keyed hashes of patients and digests of training images: "
              "share images, masks and the card, not these two files as they are.", file=sys.stderr)
    return 0
