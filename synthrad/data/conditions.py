"""Tables of conditions: what each image of a synthetic set is asked to show, one row an image.

Columns are label:<class> (0, 1, NaN unknown) and attribute:<name> ("" unknown); an absent column is unknown throughout.
For a generator that draws from masks also mask:<layer>, a file as manifest.csv names it (data.mask_conditions); for one that
reads prompts also `text`, the prompt itself (blank or absent: written from labels and attributes, see data.prompts).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthrad.conditioning import Condition
from synthrad.data.prompts import Prompt
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.lineage import hash_values, key_id, project_key
from synthrad.records import Manifest

TEXT = "text"  # column of prompts


def condition_columns(info: DatasetInfo) -> list[str]:
    """Columns of a whole table of conditions, in the order of the dataset's info."""
    return [f"label:{c}" for c in info.classes] + [f"attribute:{a}" for a in info.attributes]


def with_known_masks(train: Manifest, layers: Sequence[str]) -> Manifest:
    """The rows that have a mask of every one of `layers`.

    Raises:
        InputError: there is none.
    """
    known = np.all([train.column(f"mask:{x}") != "" for x in layers], axis=0) if layers else np.ones(len(train), bool)
    if not known.any():
        masked = f" with a mask of {', '.join(layers)}" if layers else ""
        raise InputError("--manifest", f"no real training row{masked}", "rows of split train",
                         "give the manifest that the generator was trained on")
    return train.take(np.flatnonzero(known))


def real_conditions(train: Manifest, number: int, seed: int, layers: Sequence[str] = ()) -> pd.DataFrame:
    """`number` joint conditions of real training rows: every row once, in random order, before any row twice.

    Args:
        layers: of a generator that draws from masks: each condition comes with the masks of its own row.
    """
    train = with_known_masks(train, layers)
    rng = np.random.default_rng([seed, 1])
    rounds = [rng.permutation(len(train)) for _ in range(-(-number // len(train)))]
    rows = np.concatenate(rounds)[:number] if rounds else np.zeros(0, int)
    return train.take(rows).table[condition_columns(train.info) + [f"mask:{x}" for x in layers]]


def each_condition(train: Manifest, number: int) -> pd.DataFrame:
    """`number` of each distinct combination of labels and attributes among the real training rows."""
    distinct = train.table[condition_columns(train.info)].drop_duplicates()
    return distinct.loc[distinct.index.repeat(number)].reset_index(drop=True)


def table_conditions(table: pd.DataFrame, info: DatasetInfo, where: str) -> pd.DataFrame:
    """Check a table (strings) whose columns are classes and attributes, with or without `label:` and `attribute:`.

    Columns mask:<layer> and text stay as they are.

    Raises:
        InputError: a column that is none of these, or a label that is not 0, 1 or blank.
    """
    out = {c: np.full(len(table), np.nan if c.startswith("label:") else "", dtype=object) for c in condition_columns(info)}
    masks, told = [*(f"mask:{x}" for x in info.layers), TEXT], {}
    for name in table.columns:
        if name in masks:
            out[name] = table[name].fillna("").astype(str).str.strip().to_numpy(dtype=object)
            continue
        found = [c for c in (name, f"label:{name}", f"attribute:{name}") if c in out]
        if not found:
            raise InputError(f"{where}: column {name!r}", "neither a class nor an attribute",
                             f"among {[*info.classes, *info.attributes, *masks]}", "remove or rename the column")
        if found[0] in told:
            raise InputError(f"{where}: column {name!r}", f"beside {told[found[0]]!r}, which says the same", "one of them", "remove one")
        told[found[0]] = name
        values = table[name].fillna("").astype(str).str.strip().replace("?", "")  # as Cells writes what is unknown
        if found[0].startswith("label:"):
            bad = ~values.isin(["0", "1", "", "0.0", "1.0", "nan"])
            if bad.any():
                raise InputError(f"{where}: row {int(bad.idxmax()) + 2}, column {name!r}", repr(values[bad].iloc[0]),
                                 "0, 1 or blank")
            values = pd.to_numeric(values.replace({"": None, "nan": None}))
        out[found[0]] = values.to_numpy()
    frame = pd.DataFrame(out)
    return frame.astype({c: float for c in frame if c.startswith("label:")})


def plan_conditions(plan: Sequence[Mapping[str, Any]], info: DatasetInfo, where: str) -> pd.DataFrame:
    """Conditions of a plan: a list of {"cell": ["caries=1", "sex=F"], "number": 12}.

    Raises:
        InputError: a part of a cell that is neither a class nor an attribute: this generator cannot be asked for it.
    """
    rows: list[dict[str, str]] = []
    for entry in plan:
        try:
            parts = dict(part.split("=", 1) for part in entry["cell"])
            if len(parts) < len(entry["cell"]) or entry["number"] != int(entry["number"]) or entry["number"] < 0:
                raise ValueError(entry)
            rows += [parts] * int(entry["number"])
        except (KeyError, TypeError, ValueError) as e:
            raise InputError(where, f"the entry {entry!r}", '{"cell": ["class=1", ...], "number": 12}, each class once') from e
    return table_conditions(pd.DataFrame(rows, dtype=object).fillna(""), info, where)


def blank_unlearned(conditions: pd.DataFrame, spec: Mapping[str, Any], info: DatasetInfo) -> pd.DataFrame:
    """Make unknown what the data knows and the generator does not: rare values, and labels and attributes that were left out.

    Prints how many.

    Raises:
        InputError: a value that the training data does not have.
    """
    out, key = conditions.copy(), project_key()
    untaught = [f"label:{c}" for c in spec.get("untaught", []) if f"label:{c}" in out]
    if untaught and (gone := int(out[untaught].notna().any(axis=1).sum())):
        print(f"{gone} of {len(out)} conditions name {', '.join(c[6:] for c in untaught)}, which the generator was not taught: "
              "unknown there", flush=True)
        out[untaught] = np.nan
    for a in info.attributes:
        column, known = f"attribute:{a}", list(spec["attributes"].get(a, []))
        if column not in out:
            continue
        others = sorted(set(out[column].fillna("")) - {"", *known})
        rare = [v for v in others if hash_values(info.id, a, [v], key) <= set(spec.get("rare", {}).get(a, []))]
        same_key = spec.get("key_id", "") == key_id(key)
        if (strange := [v for v in others if v not in rare]) and (same_key or known):
            raise InputError(f"conditions: attribute {a!r}", repr(strange[0]), f"one of {known} or blank",
                             "ask only for values that the generator was trained on")
        if others:
            gone = out[column].isin(others)
            print(f"{int(gone.sum())} of {len(out)} conditions ask for values of {a!r} that the generator was not taught "
                  "(rare in its data, or left out): unknown there", flush=True)
            out.loc[gone, column] = ""
    return out


def read_conditions(source: str, info: DatasetInfo, train: Manifest | None, number: int, seed: int,
                    layers: Sequence[str] = ()) -> pd.DataFrame:
    """The conditions that --conditions names: real, each:N, or a file (.csv, or .json with a plan).

    Args:
        number: for real alone. layers: as real_conditions takes them; each:N then means rows that have these masks.
    """
    if source == "real" or source.startswith("each:"):
        if train is None:
            raise InputError("--manifest", "nothing", f"the real manifest, for --conditions {source}", "add --manifest REAL")
        if source == "real":
            return real_conditions(train, number, seed, layers)
        if not source[5:].isdigit() or int(source[5:]) < 1:
            raise InputError("--conditions", repr(source), "each:N with N >= 1")
        return each_condition(with_known_masks(train, layers), int(source[5:]))
    path = Path(source)
    if path.suffix not in (".csv", ".json") or not path.is_file():
        raise InputError("--conditions", repr(source), "real, each:N, or an existing .csv or .json file")
    if path.suffix == ".csv":
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (ValueError, UnicodeDecodeError) as e:  # pandas' own errors are ValueErrors
            raise InputError(source, f"no table ({' '.join(str(e).split())[:120]})", "a .csv with a header and one row an image") from e
        if not isinstance(table.index, pd.RangeIndex):  # pandas takes what is too much for names of rows
            raise InputError(source, "rows of more fields than the header has", "a .csv with a header and one row an image")
        return _some(table_conditions(table, info, source), source)
    try:
        plan = json.loads(path.read_text())
    except ValueError as e:
        raise InputError(source, f"no JSON ({e})", "a plan") from e
    if not isinstance(plan, list):
        raise InputError(source, f"a {type(plan).__name__}", 'a plan: a list of {"cell": ["class=1", ...], "number": 12}')
    return _some(plan_conditions(plan, info, source), source)


def _some(conditions: pd.DataFrame, source: str) -> pd.DataFrame:
    if not len(conditions):
        raise InputError(source, "conditions of no image", "at least one row")
    return conditions


def ask_less(conditions: pd.DataFrame, prompts: str, unnamed: str, rng: np.random.Generator) -> pd.DataFrame:
    """Conditions that name less than the rows they were taken from; what is drawn is labelled so, too.

    Args:
        conditions: label:<class> and attribute:<name> columns; others stay.
        prompts: none = neither labels nor attributes; single = of the findings that a row has one, drawn anew for each row;
            multi = all of them.
        unnamed: what becomes of the labels that are not named, in rows that have a finding: unknown, or absent (0). A row of
            which no finding is known keeps its labels: "no finding" is what it names.
    """
    out, labels = conditions.copy(), [c for c in conditions if c.startswith("label:")]
    if prompts == "none":
        out[labels] = np.nan
        out[[c for c in conditions if c.startswith("attribute:")]] = ""
        return out
    values = out[labels].to_numpy(dtype=float, copy=True)
    for row in values:
        present = np.flatnonzero(row == 1)
        if len(present):
            row[:] = np.nan if unnamed == "unknown" else 0
            row[rng.choice(present) if prompts == "single" else present] = 1
    out[labels] = values
    return out


def complete(conditions: pd.DataFrame, info: DatasetInfo) -> pd.DataFrame:
    """All condition columns in the info's order; what is absent is unknown."""
    out = pd.DataFrame(index=range(len(conditions)))
    for c in condition_columns(info):
        blank = np.nan if c.startswith("label:") else ""
        out[c] = conditions[c].to_numpy() if c in conditions else blank
        out[c] = out[c].astype(float) if c.startswith("label:") else out[c].fillna("").astype(object)
    if TEXT in conditions:
        out[TEXT] = conditions[TEXT].fillna("").astype(object).to_numpy()
    return out


def with_prompts(conditions: pd.DataFrame, spec: Mapping[str, Any], info: DatasetInfo, where: str) -> pd.DataFrame:
    """Conditions with a prompt each, for a generator that reads prompts: the one that a row gives, else one of its labels and attributes.

    Args:
        conditions: with the attributes as the manifest has them. spec: of the generator; with `prompt`, if it reads prompts.

    Raises:
        InputError: a column `text` for a generator that reads none.
    """
    if "prompt" not in spec:
        if TEXT in conditions:
            raise InputError(f"conditions: {TEXT}", f"prompts for {where}, which reads none", "a generator trained with model.text",
                             "leave the column out, or name labels and attributes instead")
        return conditions
    given = conditions[TEXT].fillna("").astype(str) if TEXT in conditions else pd.Series([""] * len(conditions), index=conditions.index)
    asked = complete(conditions.drop(columns=TEXT, errors="ignore"), info)
    taught = [c for c in info.classes if c not in spec.get("untaught", ())]
    known = spec["attributes"]  # of a taught attribute only its values were ever written; one that is no value, a report, stays
    attributes = [{a: v for a in info.attributes if (v := row[f"attribute:{a}"]) in known.get(a, [v])} for _, row in asked.iterrows()]
    written = Prompt(**spec["prompt"]).write_all(asked[[f"label:{c}" for c in taught]].to_numpy(dtype=float), taught, attributes)
    return conditions.assign(**{TEXT: [g or w for g, w in zip(given, written, strict=True)]})


def to_condition(rows: pd.DataFrame, info: DatasetInfo, masks: np.ndarray | None = None) -> Condition:
    """Rows of a complete table as a generator takes them; masks: int64 [n, L, h, w] or None."""
    import torch

    return Condition(labels=rows[[f"label:{c}" for c in info.classes]].to_numpy(dtype=float),
                     attributes=[{a: r[f"attribute:{a}"] for a in info.attributes} for _, r in rows.iterrows()],
                     masks=None if masks is None else torch.from_numpy(masks), text=list(rows[TEXT]) if TEXT in rows else None)


def condition_text(row: pd.Series) -> str:
    """`caries=1 implant=0 sex=F`; unknown parts are left out."""
    parts = []
    for column, value in row.items():
        if column.startswith("label:") and not np.isnan(value):
            parts.append(f"{column[6:]}={int(value)}")
        elif column.startswith("attribute:") and value:
            parts.append(f"{column[10:]}={value}")
    return " ".join(parts)
