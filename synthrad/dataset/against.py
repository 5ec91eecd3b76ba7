"""`synthrad prepare check MANIFEST --against OTHER`: which images do two sets share, and which must not train what is tested on the others?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.data.shared_images import Shared, SharedPair, check_channels, shared_images
from synthrad.data.sheets import Block, panel
from synthrad.dataset_info import HERE
from synthrad.errors import InputError
from synthrad.manifest_table import SPLITS
from synthrad.records import Manifest

LEARNED_FROM = ("train", "val", "audit")  # splits that something is fitted or selected on
HELD_OUT = ("val", "audit")  # beside the test images: a study refuses what was trained on their copies, too
SHOWN = 8  # pairs with pictures


@dataclass(frozen=True)
class Against:
    """One other set, and what it shares with this one. folder: as it was given. ours, theirs: the manifests."""

    folder: str
    ours: Manifest
    theirs: Manifest
    shared: Shared

    @property
    def name(self) -> str:
        """Of the other set; with its folder where both have one name."""
        name = self.theirs.info.name
        return name if name != self.ours.info.name else f"{name} ({self.folder})"

    def counts(self) -> dict[str, dict[str, int]]:
        """split of this set -> split of the other, or "any" -> images of this set with a copy there."""
        ours, theirs = self.ours.column("split"), self.theirs.column("split")
        rows = {s: {t: {p.ours for p in self.shared.pairs if ours[p.ours] == s and t in (theirs[p.theirs], "any")} for t in (*SPLITS, "any")} for s in SPLITS}
        return {s: {t: len(found) for t, found in row.items()} for s, row in rows.items() if (ours == s).any()}

    def meeting(self, ours: Sequence[str], theirs: Sequence[str]) -> list[SharedPair]:
        """The pairs of these splits."""
        return self.shared.among(np.isin(self.ours.column("split"), ours), np.isin(self.theirs.column("split"), theirs))

    def advice(self) -> list[str]:
        """What excludes what, a line each."""
        mine, theirs = self.ours.info.name, self.name
        lines = []
        if seen := {p.ours for p in self.meeting(["test"], LEARNED_FROM)}:
            lines.append(f"What learned from {theirs} (a generator, a net, a synthetic set) saw {len(seen)} of the {len(self.ours.where(split='test'))} test images of {mine}: "
                         f"train it without their copies, or prepare {mine} without these test images.")
        if seen := {p.theirs for p in self.meeting(LEARNED_FROM, ["test"])}:
            lines.append(f"What learned from {mine} saw {len(seen)} of the {len(self.theirs.where(split='test'))} test images of {theirs}: as an external test set of {mine} "
                         "prepare it without them.")
        if seen := {p.ours for p in self.meeting(HELD_OUT, ["train"])}:
            lines.append(f"What was trained on {theirs} saw {len(seen)} of the {self._held_out(self.ours)} validation and audit images of {mine}: a study of {mine} refuses it, "
                         "or takes it with a reason under allow_copies.")
        if seen := {p.theirs for p in self.meeting(["train"], HELD_OUT)}:
            lines.append(f"What was trained on {mine} saw {len(seen)} of the {self._held_out(self.theirs)} validation and audit images of {theirs}: a study of {theirs} refuses it, "
                         "or takes it with a reason under allow_copies.")
        if self.meeting(["test"], ["test"]):
            lines.append(f"Test images of {mine} are test images of {theirs}, too: one as the external test set of the other tests the same patients twice.")
        if not lines and self.shared.pairs:
            lines.append(f"No test image is among them, and no image for validation or audits that trains the other: {mine} and {theirs} may train and test each other, but share training images.")
        return lines

    @staticmethod
    def _held_out(manifest: Manifest) -> int:
        return int(np.isin(manifest.column("split"), HELD_OUT).sum())

    def facts(self) -> dict[str, Any]:
        """For check.json: the files of every pair."""
        pairs = [{"row": p.ours + 2, "file": self.ours[p.ours].channels[0].name, "split": self.ours.column("split")[p.ours], "other_row": p.theirs + 2,
                  "other_file": self.theirs[p.theirs].channels[0].name, "other_split": self.theirs.column("split")[p.theirs], "likeness": p.likeness,
                  "same_file": p.same_file} for p in self.shared.pairs]
        return {"set": self.name, "folder": self.folder, "digest": self.theirs.digest, "images": len(self.theirs), "threshold": self.shared.threshold,
                "counts": self.counts(), "advice": self.advice(), "pairs": pairs}

    def lines(self) -> list[str]:
        """What the command prints."""
        copied, same = {p.ours for p in self.shared.pairs}, {p.ours for p in self.shared.pairs if p.same_file}
        head = (f"  against {self.name} ({len(self.theirs)} images): {len(copied)} images of this set are in it, {len(same)} as the same file and {len(copied - same)} changed "
                f"(likeness {self.shared.threshold:.3f} or more)")
        return [head, *(f"    {split}: {row['any']} ({', '.join(f'{t} {n}' for t, n in row.items() if n and t != 'any')} there)"
                        for split, row in self.counts().items() if row["any"]), *(f"    {line}" for line in self.advice())]

    def blocks(self) -> list[Block]:
        """Pictures of pairs, changed ones and the least alike first, because these are to be looked at."""
        chosen: dict[int, SharedPair] = {}
        for pair in sorted(self.shared.pairs, key=lambda p: (p.same_file, p.likeness)):
            chosen.setdefault(pair.ours, pair)
        ours, theirs = self.ours.column("split"), self.theirs.column("split")
        return [Block("same file" if p.same_file else f"likeness {p.likeness:.3f}",
                      [panel(self.ours, p.ours, f"row {p.ours + 2}, {ours[p.ours]}", outlined=False),
                       panel(self.theirs, p.theirs, f"{self.name}: row {p.theirs + 2}, {theirs[p.theirs]}", outlined=False)])
                for p in list(chosen.values())[:SHOWN]]


def compare(manifest: Manifest, others: Mapping[str, Manifest]) -> list[Against]:
    """Compare a set with others, as `read_others` gave them, one after the other."""
    return [Against(folder, manifest, theirs, shared_images(manifest, theirs)) for folder, theirs in others.items()]


def read_others(manifest: Manifest, folders: Sequence[str]) -> dict[str, Manifest]:
    """The manifests of other sets, before any of their images is opened.

    Raises:
        InputError: a folder is given twice, is the set's own, or is no manifest; the channels differ.
    """
    seen, found = {Path(manifest.info.roots[HERE]).resolve()}, {}
    for folder in folders:
        if (where := Path(folder).resolve()) in seen:
            raise InputError("--against", f"{folder}, which is this set or was given before", "other sets, each once")
        seen.add(where)
        theirs = Manifest.read(folder)
        if not len(theirs):
            raise InputError("--against", f"{folder}, a set without rows", "at least one image")
        check_channels(manifest, theirs)
        found[folder] = theirs
    return found
