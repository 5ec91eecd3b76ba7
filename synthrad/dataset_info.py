"""DatasetInfo: what the rows of a manifest have in common, as dataset.yaml and checkpoints hold it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from synthrad.errors import InputError
from synthrad.lineage import Lineage

HERE = "here"  # the root that is the manifest's own folder
FORMAT = 1
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}\Z")
_FOLDER_NAME = re.compile(r"(?!\.{1,2}\Z)[^\x00-\x1f\x7f/\\]{1,200}\Z")


@dataclass(frozen=True)
class DatasetInfo:
    """What a manifest's rows have in common.

    Args:
        name, id: a name to print; an id that hashes of subjects are bound to (stable over copies).
        classes: label classes, the order of Record.labels.
        layers: mask layer -> its structures; mask pixel k is structure k - 1, 0 is background.
        channels: channel names, the order of Record.channels.
        attributes: attribute names.
        roots: name -> folder (absolute, or relative to the manifest's folder). Not part of the digest.
        intensity: {"low": .., "high": ..}: the stored values that become -1 and 1.
        resize: letterbox (keep aspect, pad with low) or squeeze.
        licence: as the source states it.
        lineage: empty for real images.
    """

    name: str
    id: str
    classes: tuple[str, ...] = ()
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    channels: tuple[str, ...] = ("image",)
    attributes: tuple[str, ...] = ()
    roots: Mapping[str, str] = field(default_factory=lambda: {HERE: "."})
    intensity: Mapping[str, float] = field(default_factory=lambda: {"low": 0.0, "high": 255.0})
    resize: Literal["letterbox", "squeeze"] = "letterbox"
    licence: str = ""
    lineage: Lineage = field(default_factory=Lineage)

    def __post_init__(self) -> None:
        """Refuse names that would become other paths than meant: layers and channels are names of folders."""
        structures = [s for layer in self.layers.values() for s in layer]
        for kind, names in {"class": self.classes, "layer": self.layers, "channel": self.channels, "attribute": self.attributes,
                            "structure": structures}.items():
            for name in names:
                wrong = _FOLDER_NAME if kind in ("layer", "channel") else _NAME
                if not isinstance(name, str) or not wrong.match(name):
                    raise InputError(f"{kind} of dataset {str(self.name)[:80]!r}", repr(name)[:80],
                                     "a name of 1 to 200 characters" + ", without slashes" * (wrong is _FOLDER_NAME),
                                     "rename it where it comes from")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dicts for YAML, with the format's number."""
        plain = {k: v for k, v in asdict(replace(self, lineage=Lineage())).items() if k != "lineage"}
        plain["layers"] = {k: list(v) for k, v in self.layers.items()}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}
        return {"format": FORMAT, **plain, "lineage": self.lineage.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str) -> DatasetInfo:
        """The inverse of to_dict.

        Raises:
            InputError: another format, or missing or unknown keys; it names `where`.
        """
        if not isinstance(data, dict):
            raise InputError(where, "no mapping", "a dataset.yaml written by synthrad", "run `synthrad prepare` again")
        data = {k: v for k, v in data.items() if k not in ("digest", "rows", "seal")}
        if data.pop("format", None) != FORMAT:
            raise InputError(where, "no `format: 1`", "a dataset.yaml written by synthrad", "run `synthrad prepare` again")
        try:
            lineage = Lineage.from_dict(data.pop("lineage", None))
            data["layers"] = {k: tuple(v) for k, v in data["layers"].items()}
            for key in ("classes", "channels", "attributes"):
                data[key] = tuple(data[key])
            _check_values(data)
            return cls(**data, lineage=lineage)
        except InputError as e:
            raise InputError(where, f"{e.where}: {e.found}", e.expected, e.repair) from e
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as e:  # 10**400 is no float
            raise InputError(where, f"{e}", "the keys of DatasetInfo", "run `synthrad prepare` again") from e


def _check_values(data: Mapping[str, Any]) -> None:
    """Types of what YAML or a checkpoint gave for DatasetInfo.

    Raises:
        ValueError: names the key.
    """
    low, high = (float(data.get("intensity", {"low": 0, "high": 1})[k]) for k in ("low", "high"))
    sound = {
        "name, id, licence": all(isinstance(data.get(k, ""), str) for k in ("name", "id", "licence")),
        "roots": all(isinstance(v, str) and "\0" not in v for pair in data.get("roots", {}).items() for v in pair),
        "intensity": np.isfinite([low, high]).all() and low < high,
        "resize": data.get("resize", "squeeze") in ("letterbox", "squeeze"),
    }
    if wrong := [key for key, good in sound.items() if not good]:
        raise ValueError(f"{wrong[0]} of another kind")
