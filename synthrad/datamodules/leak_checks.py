"""What must not meet in one fit: a synthetic set whose making saw held-out patients, an external test set of training patients.

By hashed subject, by fingerprint (equal files) and by what is known of public datasets. Copies whose pixels were changed are looked for once in a study,
`synthrad.study.other_sets`, not here.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from synthrad.data.overlaps import corpus_of, meeting
from synthrad.errors import InputError
from synthrad.lineage import Lineage, all_hashes, is_pseudonym, key_id, project_key
from synthrad.records import Manifest
from synthrad.seals import seal_says


def refuse_leaks(real: Manifest, synthetic: Manifest, where: str) -> None:
    """Refuse a synthetic set whose making has seen val, audit or test, by hashed subject or by fingerprint.

    Whatever was only used to select (early stopping, a filter's threshold) may meet val.

    Raises:
        InputError: names the split and how many subjects or images meet it; or the lineage is of before pseudonyms, which `real` holds.
    """
    lineage = synthetic.info.lineage
    if lineage.before_pseudonyms(real.info.id) and any(map(is_pseudonym, set(real.column("subject")))):
        raise InputError(where, f"a lineage with subjects of {real.info.id!r} in the form of an older version, which cannot be compared with pseudonyms",
                         f"one that can be: {real.info.name!r} holds pseudonyms", "sample or import the set again, or use the manifest it was made with")
    key = project_key()
    drawn = set(synthetic.column("digest")) - {""}
    for split in ("val", "audit", "test"):
        held = real.where(split=split)
        subjects = all_hashes(real.info.id, held.column("subject"), key)
        seen = lineage.trained_on() if split == "val" else lineage.trained_on() | lineage.selected_on()
        images = set(held.column("digest")) - {""}
        for what, meets in (
            ("subjects that the generator (or another fitted part) has seen", len(subjects & seen)),
            ("images that the generator (or another fitted part) was trained on", len(images & lineage.fingerprints())),
            ("images that are byte for byte in the synthetic set", len(images & drawn)),
        ):
            if meets:
                raise InputError(where, f"a synthetic set whose lineage meets the {split} split: {meets} {what}",
                                 f"a set made without the {split} split of {real.info.name!r}",
                                 "train the generator on split train of this very manifest, then sample again")


def refuse_overlaps(real: Manifest, lineage: Lineage, where: str) -> None:
    """Refuse a synthetic set whose making saw another public dataset that holds images of this one's, by what is known of both ids.

    Subjects of datasets with one id are compared one by one instead (`refuse_leaks`).

    Raises:
        InputError: why they meet, and who says so.
    """
    for other in sorted(lineage.datasets() - {real.info.id}):
        if why := meeting(corpus_of(other), corpus_of(real.info.id, real.info.name)):
            raise InputError(where, f"a synthetic set whose generator (or another fitted part) saw dataset {other!r}, which shares patients with {real.info.name!r}: {why}",
                             "a set made without them", "train on another dataset; if the shared patients are left out of either, say so by an id of its own (--id)")


def refuse_unsealed(folder: Path | str, lineage: Lineage, where: str) -> None:
    """Refuse a set without a lineage, and one that claims to be this project's and bears no seal of it: what it says may have been edited.

    Raises:
        InputError: says which.
    """
    if not lineage.fitted:
        raise InputError(where, "a synthetic set without a lineage", "one that says what its generator was trained on, or that nobody knows",
                         "sample it again, or import it with `synthrad prepare table ... --synthetic --trained-on MANIFEST|unknown`")
    own = key_id(project_key())
    if any(f.key_id == own for f in lineage.fitted) and seal_says(folder) != "this project":
        raise InputError(where, "a lineage that names this project's key, without this project's seal", "the set as this project wrote it",
                         "make it again; its lineage may have been edited since")


def with_checked_origin(synthetic: Manifest, where: str) -> Manifest:
    """The set with the origin that its lineage has under this project's key; warns where nobody can check it."""
    own = synthetic.info.lineage
    lineage = own.seen_with(project_key())
    if lineage.origin != own.origin:
        origin = ("subjects hashed with another project's key (run in the project's folder or set SYNTHRAD_PROJECT to it); "
                  "here its origin is unknown")
    elif lineage.origin != "known":
        origin = f"lineage {lineage.origin}"
    else:
        return synthetic
    warnings.warn(f"{where}: {origin}: nobody can check that test subjects were not used; every table will say so")
    return Manifest(synthetic.table, replace(synthetic.info, lineage=lineage))


def refuse_training_images(real: Manifest, held: Manifest, where: str) -> None:
    """Raise InputError where an external test set holds images of split train or val, byte for byte, or shares patients with the set.

    Patients are compared one by one where both sets have one id, else by what is known of both ids.
    """
    key = project_key()
    people = {s: all_hashes(held.info.id, [s], key) for s in set(held.column("subject"))} if real.info.id == held.info.id else {}
    for split in ("train", "val"):
        rows = real.where(split=split)
        images = set(rows.column("digest")) - {""}
        if meets := len(images & set(held.column("digest"))):
            raise InputError(where, f"{meets} images that are byte for byte in split {split} of {real.info.name!r}",
                             "images of another source", "leave them out of the external set")
        mine = all_hashes(real.info.id, rows.column("subject"), key)
        if meets := sum(bool(hashes & mine) for hashes in people.values()):
            raise InputError(where, f"{meets} subjects that are in split {split} of {real.info.name!r}, which has the same id {real.info.id!r}",
                             "patients of another source",
                             "leave them out of the external set, or prepare it with an id of its own (--id) if they are other people")
    if real.info.id != held.info.id and (why := meeting(corpus_of(real.info.id, real.info.name), corpus_of(held.info.id, held.info.name))):
        raise InputError(where, f"a set that shares patients with {real.info.name!r}: {why}", "patients of another source",
                         "test on another set; if the shared patients are left out of either, say so by an id of its own (--id)")
