"""The part of an audit that trains judges on the split audit: re-identification, attributes, adherence; and the source shortcut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from synthrad.audit import adherence as adherence_
from synthrad.audit.attributes import attribute_rung
from synthrad.audit.copying import Search
from synthrad.audit.judges import FEWEST_EACH, FEWEST_SUBJECTS, Classifier, Segmenter, enough, targets_of
from synthrad.audit.reidentification import make_verifier, reidentification_rung, why_not
from synthrad.audit.rungs import Rung
from synthrad.audit.sides import Sides
from synthrad.metrics import shortcut
from synthrad.metrics.features import radiomics

RUNGS = 2  # a set


class Jury:
    """Judges, fitted once for all sets of an audit: they know the real patients of the split audit alone.

    Args:
        sides: of the set itself. seed: of all fits.
    """

    def __init__(self, sides: Sides, seed: int = 0):
        self.seed = seed
        self.verifier = None if why_not(sides) else make_verifier(sides, seed)
        self.classifier = self.segmenter = None
        if not adherence_.too_few(sides):
            rows = sides.witnesses.rows
            people = np.asarray(rows.column("subject"))
            if targets := [t for t in targets_of(sides) if min(enough(t.of(rows), people)) >= FEWEST_EACH]:
                self.classifier = Classifier(sides.witnesses, targets, seed)
            if adherence_.masked_witnesses(sides) >= FEWEST_SUBJECTS:
                self.segmenter = Segmenter(sides.witnesses, seed)

    def rungs(self, sides: Sides, suffix: str = "", *, rungs: int, trials: int = 50) -> tuple[list[Rung], dict[str, Search]]:
        """Re-identification and attributes of a set, and what each search found.

        Args:
            suffix: of the rungs' names. rungs: of the whole audit. trials: of the self-tests.
        """
        made, searches = [], {}
        for rung, found in (reidentification_rung(sides, self.verifier, suffix, rungs=rungs, seed=self.seed, trials=trials),
                            attribute_rung(sides, self.classifier, suffix, rungs=rungs, seed=self.seed, trials=trials)):
            made.append(rung)
            if found is not None:
                searches[rung.name] = found
        return made, searches

    def sections(self, sides: Sides) -> dict[str, Any]:
        """What neither passes nor fails, as the record keeps it."""
        found = adherence_.adherence(sides, self.classifier, self.segmenter, self.seed)
        return {"adherence": found if isinstance(found, str) else [f.to_dict() for f in found],
                "shortcut": [s.to_dict() for s in source_shortcut(sides, self.seed)]}


def source_shortcut(sides: Sides, seed: int = 0) -> list[shortcut.Shortcut]:
    """Training images against the set, in the space of radiomics."""
    at = np.flatnonzero(sides.member)
    real, drawn = radiomics(sides.real[torch.from_numpy(at)]).numpy(), radiomics(sides.synthetic).numpy()
    return shortcut.shortcuts(real, drawn, sides.rows.labels[at], sides.drawn.labels, list(sides.drawn.info.classes), sides.subjects[at], seed)


def told(record: Mapping[str, Any]) -> Sequence[str]:
    """The sections of a record for a reader."""
    return [adherence_.told(record["adherence"]), shortcut.told([shortcut.Shortcut.from_dict(r) for r in record["shortcut"]])]
