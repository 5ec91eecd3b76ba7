"""`synthrad study export` and `synthrad study import-cases`: an arm for another trainer, and its predictions back."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthrad.errors import InputError

if TYPE_CHECKING:
    from synthrad.records import Manifest
    from synthrad.study.description import Study
    from synthrad.study.planning import Plan

VERBS = ("export", "import-cases")


def add_parsers(verbs: argparse._SubParsersAction) -> None:
    """Declare both command lines."""
    text = "write an arm's training set for another trainer (nnU-Net v2, or plain folders), with the study's split and the test images"
    sub = verbs.add_parser("export", help=text, description=f"{text[0].upper()}{text[1:]}. Pictures have the size that the task's nets see; test images go "
                           "along without masks and labels. A row that an arm repeats is a case as often; augmentation that makes a control's rows is in "
                           "their pixels, the light one of each draw is not.", epilog="The whole way, from here to the report: docs/outside_nets.md")
    _common(sub)
    sub.add_argument("--to", required=True, choices=("nnunet", "folder"), help="nnunet: nnUNet_raw/Dataset*/ (one for each mask "
                     "layer) and nnUNet_preprocessed/*/splits_final.json; folder: images/, masks/ and split.csv, for classification, too")
    sub.add_argument("--out", type=Path, required=True, help="a new folder")
    sub.add_argument("--seed", type=int, default=0, help="whose rows: seeds fuse and draw anew, so each trained net gets the rows of "
                     "its own (default: %(default)s)")
    sub.add_argument("--dataset-id", type=int, metavar="N", help="nnunet: number of the first dataset, 11 to 999 (default: 501)")
    text = "score another trainer's predictions on the study's test images and show them in its report as another net"
    sub = verbs.add_parser("import-cases", help=text, description=f"{text[0].upper()}{text[1:]}, marked as trained outside. `synthrad study report` shows it, "
                           "with comparisons where the same net's predictions for real_only were imported for the same seeds, too. No verdict is about it.",
                           epilog="The whole way: docs/outside_nets.md")
    _common(sub)
    sub.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="segmentation: a folder of label pictures CASE.png (of a task of several layers "
                     "a folder a layer), 0 background, then the structures in their order; classification: a CSV with the columns case and one a class, "
                     "probabilities of the test cases (with those of all validation cases thresholds are chosen)")
    sub.add_argument("--net", required=True, help="what the report calls it: lower case letters, digits and _; it adds `(outside)`")
    sub.add_argument("--seed", type=int, required=True, help="whose exported rows it learned from")
    sub.add_argument("--note", default="", help="how it was trained, for the report, such as 'nnU-Net 2.6.2, 2d, fold 0'")
    sub.add_argument("--again", action="store_true", help="replace what was imported for the same net, arm and seed; the report says so")


def _common(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("study", type=Path, metavar="STUDY", help="study file, e.g. configs/studies/quickstart.yaml")
    sub.add_argument("--arm", required=True, help="an arm of the study or one of its controls, e.g. real_only, matched_duplicate")
    sub.add_argument("--task", help="a task of the study (default: that of its endpoint)")
    sub.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")


def run(args: argparse.Namespace, folder: Path, study: Study, manifest: Manifest, plan: Plan, graph: Mapping[str, Any]) -> int:
    """Do either verb and print what was written.

    Raises:
        InputError: an arm, task, seed or option that does not fit, or predictions that do not.
    """
    from synthrad.study.outside_layouts import outside_arm, with_pool

    rows = with_pool(outside_arm(study, manifest, plan, study.endpoint.task if args.task is None else args.task, args.arm, args.seed), folder, graph)
    if args.verb == "export":
        return _export(args, rows, manifest)
    from synthrad.study.outside_cases import import_cases

    print("\n".join(import_cases(folder, rows, manifest, plan, args.predictions, args.net, args.note, args.again)))
    print(f"`synthrad study report {args.study}` shows it")
    return 0


def _export(args: argparse.Namespace, rows: Any, manifest: Manifest) -> int:
    from synthrad.dataset.plain_copy import open_folder
    from synthrad.study import outside_layouts as layouts

    if args.to == "folder" and args.dataset_id is not None:
        raise InputError("--dataset-id", "--to folder", "--to nnunet: folders have no number", "leave it out")
    first = layouts.FIRST_ID if args.dataset_id is None else args.dataset_id
    if args.to == "nnunet":
        layouts.checked_for_nnunet(rows, manifest, first)
    out = open_folder(args.out)
    print("\n".join(layouts.export_nnunet(rows, manifest, out, first) if args.to == "nnunet" else layouts.export_folder(rows, manifest, out)))
    print(f"wrote {out}\n  these are images of patients: an export is no de-identification; cases.csv names the manifest's subjects and is nothing to "
          "train from")
    return 0
