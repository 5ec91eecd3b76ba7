"""Lineage: what every fitted thing on the path of an image has seen.

Subjects are stored as keyed hashes (HMAC-SHA256), so that a lineage can be compared with a split by whoever holds the project's
key and by nobody else. A manifest may hold subjects by their names or by pseudonyms (`pseudonym`, keyed too); a lineage holds another hash
of the pseudonym, so that both manifests of one dataset id meet the same lineage, and the two hashes cannot be told to belong together
without the key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from synthrad.errors import naming

Origin = Literal["known", "declared", "unknown"]
ORIGINS: tuple[Origin, ...] = ("known", "declared", "unknown")


def project_folder(folder: Path | str | None = None) -> Path:
    """`<folder>/.synthrad`, what a project knows and does not share. folder: SYNTHRAD_PROJECT or the current one."""
    return Path(folder or os.environ.get("SYNTHRAD_PROJECT", ".")) / ".synthrad"


def project_key(folder: Path | str | None = None) -> bytes:
    """The project's secret: `<folder>/.synthrad/key`, made at first use, see `project_folder`."""
    path = project_folder(folder) / "key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix="key.")  # readable by its owner only
        try:
            with naming(path), os.fdopen(handle, "w") as f:
                f.write(secrets.token_hex(32))
                f.flush()
                os.fsync(f.fileno())
            os.link(draft, path)  # the first writer wins: two runs that start together share one key
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    return bytes.fromhex(path.read_text().strip())


def _keyed(key: bytes, *parts: str) -> str:
    return hmac.new(key, "\0".join(parts).encode(), hashlib.sha256).hexdigest()


_PSEUDONYM = re.compile(r"p-[0-9a-f]{32}")


def is_pseudonym(subject: str) -> bool:
    """Whether a subject of a manifest is a `pseudonym` already: its form says so, in exports and tables, too."""
    return bool(_PSEUDONYM.fullmatch(subject))


def pseudonym(dataset_id: str, subject: str, key: bytes) -> str:
    """What stands for a subject in a manifest without names: "p-" and 32 hex digits. A pseudonym stays itself."""
    return subject if is_pseudonym(subject) else f"p-{_keyed(key, 'synthrad pseudonym', dataset_id, subject)[:32]}"


def hash_subjects(dataset_id: str, subjects: Iterable[str], key: bytes) -> frozenset[str]:
    """What a lineage holds of subjects, named or pseudonymised: keyed hashes (40 hex digits) of `dataset_id` + pseudonym."""
    return frozenset(_keyed(key, "synthrad lineage", dataset_id, pseudonym(dataset_id, s, key))[:40] for s in set(subjects))


def all_hashes(dataset_id: str, subjects: Iterable[str], key: bytes) -> frozenset[str]:
    """`hash_subjects`, and what older lineages may hold of the same subjects (32 hex digits): their own hashes, or hashes of those where the
    set had been pseudonymised; a subject that is such a hash itself stands for both. To compare, never to store."""
    subjects = set(subjects)
    once = {_keyed(key, dataset_id, s)[:32] for s in subjects}
    return hash_subjects(dataset_id, subjects, key) | subjects | once | {_keyed(key, dataset_id, h)[:32] for h in once}


def hash_values(dataset_id: str, attribute: str, values: Iterable[str], key: bytes) -> frozenset[str]:
    """Keyed hashes (32 hex digits) of values of an attribute: to recognise them without storing them."""
    return frozenset(_keyed(key, dataset_id, f"attribute {attribute}", v)[:32] for v in set(values))


def known_key(folder: Path | str | None = None) -> bytes | None:
    """The project's secret if it has one already; nothing is made."""
    path = project_folder(folder) / "key"
    return bytes.fromhex(path.read_text().strip()) if path.is_file() else None


def key_id(key: bytes) -> str:
    """Which key hashes were made with (12 hex digits); it says nothing of the key itself."""
    return hashlib.sha256(b"synthrad key id\0" + key).hexdigest()[:12]


@dataclass(frozen=True)
class Fitted:
    """One fitted thing: a generator, an autoencoder, a filter's judge, initial weights.

    Args:
        kind: generator, judge, autoencoder, text_encoder, weights ...
        digest: SHA-256 of its checkpoint ("" for a set made elsewhere).
        origin: known = synthrad fitted it; declared = somebody says so; unknown = nobody does.
        trained_on, selected_on: keyed subject hashes (hash_subjects).
        fingerprints: image digests (Record.digest) of the training images.
        key_id: of the key that the subject hashes were made with; "" in lineages from before it was noted.
        datasets: ids of the datasets that those subjects are of; empty in lineages from before they were noted.
    """

    kind: str
    digest: str = ""
    origin: Origin = "known"
    trained_on: frozenset[str] = frozenset()
    selected_on: frozenset[str] = frozenset()
    fingerprints: frozenset[str] = frozenset()
    notes: str = ""
    key_id: str = ""
    datasets: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Lineage:
    """Everything fitted that had a part in making a set. Empty for real images."""

    fitted: tuple[Fitted, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)  # block size, dtype, truncation ... of the sampling

    @property
    def origin(self) -> Origin:
        """The weakest origin of all parts: one unknown part makes the whole unknown."""
        return max((f.origin for f in self.fitted), key=ORIGINS.index, default="known")

    def trained_on(self) -> frozenset[str]:
        """Hashes of all subjects that any part was trained on."""
        return frozenset().union(*(f.trained_on for f in self.fitted))

    def selected_on(self) -> frozenset[str]:
        """Hashes of all subjects that any part was selected on (early stopping, thresholds)."""
        return frozenset().union(*(f.selected_on for f in self.fitted))

    def fingerprints(self) -> frozenset[str]:
        """Digests of all training images of all parts."""
        return frozenset().union(*(f.fingerprints for f in self.fitted))

    def datasets(self) -> frozenset[str]:
        """Ids of all datasets that any part has seen."""
        return frozenset().union(*(f.datasets for f in self.fitted))

    def before_pseudonyms(self, dataset_id: str) -> bool:
        """Whether it may hold subjects of the dataset in the older form, which nobody can compare with pseudonyms."""
        return any(len(h) == 32 for f in self.fitted if not f.datasets or dataset_id in f.datasets for h in f.trained_on | f.selected_on)

    def seen_with(self, key: bytes) -> Lineage:
        """What the holder of `key` can check: a part whose subjects were hashed with another key is of unknown origin."""
        known = ("", key_id(key))
        return replace(self, fitted=tuple(f if f.key_id in known else replace(f, origin="unknown") for f in self.fitted))

    def __add__(self, other: Lineage) -> Lineage:
        extra = tuple(f for f in other.fitted if f not in self.fitted)
        return Lineage(self.fitted + extra, {**self.settings, **other.settings})

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dicts, sorted, for YAML."""
        rows = []
        for f in self.fitted:
            row = asdict(f)
            for later in ("key_id", "datasets"):
                if not row[later]:
                    del row[later]  # older sets keep their digest
            rows.append({k: sorted(v) if isinstance(v, frozenset) else v for k, v in row.items()})
        return {"fitted": rows, "settings": dict(self.settings)}

    @classmethod
    def from_dict(cls, data: dict[str, Any] | None) -> Lineage:
        """The inverse of to_dict; nothing gives the empty lineage of real images."""
        if not data:
            return cls()
        sets = ("trained_on", "selected_on", "fingerprints", "datasets")
        rows = [{k: frozenset(v) if k in sets else v for k, v in row.items()} for row in data.get("fitted", [])]
        return cls(tuple(Fitted(**row) for row in rows), dict(data.get("settings", {})))
