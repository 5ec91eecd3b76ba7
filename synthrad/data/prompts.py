"""Prompts: what a condition says, in words, for generators that read text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from synthrad.errors import InputError, near

FINDINGS = "findings"
NO_FINDING = "no finding"
PLACE = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Prompt:
    """How prompts are written: "{findings}, {view}, {sex}" becomes "pneumothorax, frontal, female".

    Args:
        template: {findings} stands for the labels, {<attribute>} for the value of an attribute of the manifest, which may be
            a report. What is unknown leaves no gap: empty parts between commas are dropped.
        words: what is written instead of a class's name or an attribute's value, such as {"F": "female"}; else its own, with
            spaces for underscores.
    """

    template: str
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def attributes(self) -> list[str]:
        """The attributes that the template names."""
        return [name for name in PLACE.findall(self.template) if name != FINDINGS]

    def check(self, attributes: Sequence[str], where: str) -> None:
        """Refuse a template that names nothing, or what the manifest does not have.

        Raises:
            InputError: names the place.
        """
        known = [FINDINGS, *attributes]
        if not PLACE.search(self.template):
            raise InputError(where, repr(self.template), f"a template with one of {', '.join('{' + k + '}' for k in known)}",
                             'such as "{findings}"')
        for name in self.attributes:
            if name not in attributes:
                raise InputError(where, "{" + name + "}", f"one of {', '.join('{' + k + '}' for k in known)}", near(name, known)
                                 or "a report is read from a column that `prepare` took as an attribute")

    def write(self, labels: Sequence[float], classes: Sequence[str], attributes: Mapping[str, str]) -> str:
        """The prompt of one image.

        Args:
            labels: of each class: 0, 1 or NaN (unknown). A finding that is absent or unknown is not named; where all are known
                and none is present, that is said.
            attributes: name -> value; "" or absent = unknown.
        """
        present = [self._word(c) for c, v in zip(classes, labels, strict=True) if v == 1]
        nothing = len(classes) > 0 and all(v == 0 for v in labels)
        parts = {FINDINGS: NO_FINDING if nothing else ", ".join(present)}

        def put(found: re.Match[str]) -> str:
            name = found.group(1)
            return parts[FINDINGS] if name == FINDINGS else self._word(str(attributes.get(name, "") or ""))

        written = PLACE.sub(put, self.template)
        return ", ".join(part for part in (" ".join(p.split()) for p in written.split(",")) if part)

    def harmless(self, classes: Sequence[str]) -> list[str]:
        """What prompts hold whatever the patients are: the template's own words, and those for classes."""
        return [PLACE.sub(" ", self.template), NO_FINDING, *map(self._word, classes)]

    def write_all(self, labels: np.ndarray, classes: Sequence[str], attributes: Sequence[Mapping[str, str]]) -> list[str]:
        """Prompts of n images: labels [n, K], one mapping of attributes an image (or none at all)."""
        return [self.write(row, classes, a) for row, a in zip(labels, attributes or [{}] * len(labels), strict=True)]

    def _word(self, name: str) -> str:
        return self.words.get(name, name.replace("_", " "))
