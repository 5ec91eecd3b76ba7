"""`synthrad sample`: draw a synthetic set from a trained generator.

Images are computed in fixed blocks (the last one padded) and the noise of each image comes from its own seed alone, so
that a set that was killed and resumed, or made on more devices, has the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synthrad.conditioning import Condition, Generator
from synthrad.errors import InputError
from synthrad.lineage import Fitted, Lineage, hash_values, key_id, project_key
from synthrad.records import HERE, DatasetInfo, Manifest, empty_columns, file_digest, write_durably

if TYPE_CHECKING:
    from synthrad.conditioning import Images

MARK = "sampling.json"  # settings of the set, written first
BLOCKS = ".blocks"  # one JSON a finished block: file digests and areas


def image_seed(seed: int, k: int) -> int:
    """Seed of image k of a set: sets of neighbouring seeds share no image."""
    return int(np.random.SeedSequence([seed, k]).generate_state(1, np.uint64)[0] >> 1)


# ---- the generator


def load_generator(checkpoint: Path | str) -> tuple[Any, DatasetInfo, Lineage, dict[str, Any]]:
    """A trained generator with what its checkpoint says of its data.

    Returns:
        the module in evaluation mode on the CPU, the dataset's info, the lineage of what it draws, and its spec
        (`classes`, `attributes` -> values, `layers`, `size`).

    Raises:
        InputError: no such file, or not a checkpoint of a synthrad generator.
    """
    import torch

    where = str(checkpoint)
    if not Path(checkpoint).is_file():
        raise InputError(where, "no such file", "a checkpoint", "give the path of a generator's last.ckpt")
    try:
        raw = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as e:  # torch raises many kinds for a torn or foreign file
        raise InputError(where, f"a file that torch cannot load safely ({type(e).__name__})", "a Lightning checkpoint") from e
    entry = raw.get("synthrad") if isinstance(raw, dict) else None
    if not isinstance(entry, dict) or not str(entry.get("class", "")).startswith("synthrad.generators."):
        raise InputError(where, "no generator of synthrad in it", "a checkpoint of a class in synthrad.generators",
                         "train one with `synthrad fit --config configs/generators/...`")
    module, name = entry["class"].rsplit(".", 1)
    made = getattr(importlib.import_module(module), name).load_from_checkpoint(
        checkpoint, map_location="cpu", weights_only=True)
    # what an older generator was trained without, it never learned
    spec = {**entry["spec"], "label_dropout": raw.get("hyper_parameters", {}).get("label_dropout", 0.0)}
    info = DatasetInfo.from_dict(dict(spec["info"]), where)
    fitted = Fitted("generator", file_digest(checkpoint), "known", frozenset(spec["trained_on"]),
                    frozenset(), frozenset(spec["fingerprints"]), key_id=spec.get("key_id", ""))
    return made.eval(), info, info.lineage + Lineage((fitted,)), spec


def check_same_dataset(info: DatasetInfo, real: DatasetInfo, where: str) -> None:
    """Refuse a checkpoint of another dataset than the manifest's."""
    for key in ("id", "classes", "layers", "channels"):
        if getattr(info, key) != getattr(real, key):
            raise InputError(f"{where}: {key}", str(getattr(info, key)), f"{getattr(real, key)}, as --manifest has it",
                             "give the manifest that the generator was trained on, or its own checkpoint")


# ---- conditions: tables with columns label:<class> (0, 1, NaN unknown) and attribute:<name> ("" unknown)


def _condition_columns(info: DatasetInfo) -> list[str]:
    return [f"label:{c}" for c in info.classes] + [f"attribute:{a}" for a in info.attributes]


def real_conditions(train: Manifest, number: int, seed: int) -> pd.DataFrame:
    """`number` joint conditions of real training rows: every row once, in random order, before any row twice."""
    if not len(train):
        raise InputError("--manifest", "no real training row", "rows of split train")
    rng = np.random.default_rng([seed, 1])
    rounds = [rng.permutation(len(train)) for _ in range(-(-number // len(train)))]
    rows = np.concatenate(rounds)[:number] if rounds else np.zeros(0, int)
    return train.take(rows).table[_condition_columns(train.info)]


def each_condition(train: Manifest, number: int) -> pd.DataFrame:
    """`number` of each distinct combination of labels and attributes among the real training rows."""
    distinct = train.table[_condition_columns(train.info)].drop_duplicates()
    return distinct.loc[distinct.index.repeat(number)].reset_index(drop=True)


def table_conditions(table: pd.DataFrame, info: DatasetInfo, where: str) -> pd.DataFrame:
    """Check a table (strings) whose columns are classes and attributes, with or without `label:` and `attribute:`.

    Raises:
        InputError: a column that is neither, or a label that is not 0, 1 or blank.
    """
    out = {c: np.full(len(table), np.nan if c.startswith("label:") else "", dtype=object) for c in _condition_columns(info)}
    for name in table.columns:
        found = [c for c in (name, f"label:{name}", f"attribute:{name}") if c in out]
        if not found:
            raise InputError(f"{where}: column {name!r}", "neither a class nor an attribute",
                             f"among {[*info.classes, *info.attributes]}", "remove or rename the column")
        values = table[name].fillna("").astype(str).str.strip().replace("?", "")  # as Cells writes what is unknown
        if found[0].startswith("label:"):
            bad = ~values.isin(["0", "1", "", "0.0", "1.0", "nan"])
            if bad.any():
                raise InputError(f"{where}: row {int(bad.idxmax()) + 2}, column {name!r}", repr(values[bad].iloc[0]), "0, 1 or blank")
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
            rows += [parts] * int(entry["number"])
        except (KeyError, TypeError, ValueError) as e:
            raise InputError(where, f"the entry {entry!r}", '{"cell": ["class=1", ...], "number": 12}') from e
    return table_conditions(pd.DataFrame(rows, dtype=object).fillna(""), info, where)


def blank_unlearned(conditions: pd.DataFrame, spec: Mapping[str, Any], info: DatasetInfo) -> pd.DataFrame:
    """Make unknown what the data knows and the generator does not: rare values and attributes that were left out.

    Prints how many.

    Raises:
        InputError: a value that the training data does not have.
    """
    out, key = conditions.copy(), project_key()
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


def read_conditions(source: str, info: DatasetInfo, train: Manifest | None, number: int, seed: int) -> pd.DataFrame:
    """The conditions that --conditions names: real, each:N, or a file (.csv, or .json with a plan)."""
    if source == "real" or source.startswith("each:"):
        if train is None:
            raise InputError("--manifest", "nothing", f"the real manifest, for --conditions {source}", "add --manifest REAL")
        if source == "real":
            return real_conditions(train, number, seed)
        if not source[5:].isdigit() or int(source[5:]) < 1:
            raise InputError("--conditions", repr(source), "each:N with N >= 1")
        return each_condition(train, int(source[5:]))
    path = Path(source)
    if path.suffix not in (".csv", ".json") or not path.is_file():
        raise InputError("--conditions", repr(source), "real, each:N, or an existing .csv or .json file")
    if path.suffix == ".csv":
        return table_conditions(pd.read_csv(path, dtype=str, keep_default_na=False), info, source)
    try:
        plan = json.loads(path.read_text())
    except ValueError as e:
        raise InputError(source, f"no JSON ({e})", "a plan") from e
    return plan_conditions(plan, info, source)


# ---- drawing


def sample_set(generator: Generator, checkpoint: Path | str, conditions: pd.DataFrame, seed: int, out: Path | str,
               info: DatasetInfo, lineage: Lineage, block_size: int = 16, truncation: float = 1.0) -> Manifest:
    """Draw one image a row of `conditions` into a manifest folder; a killed call continues where it stopped.

    Args:
        generator: with sample(condition, seeds, truncation).
        checkpoint: its file: part of the set's identity.
        conditions: columns label:<class> and attribute:<name>; an absent column is unknown.
        seed: image k draws all its noise from image_seed(seed, k).
        info: of the real dataset. lineage: of the generator.
        block_size: images computed together; another size may move a pixel by one grey level.
        truncation: 1 = as trained, less = closer to the mean picture.

    Returns:
        the synthetic manifest, read back from `out`.

    Raises:
        InputError: `out` holds another set, or truncation is not in (0, 1].
    """
    from tqdm import tqdm

    if not 0 < truncation <= 1:
        raise InputError("--truncation", str(truncation), "a number above 0 and at most 1 (1 = as trained)")
    out = Path(out).resolve()
    conditions = _complete(conditions, info)
    settings = {"checkpoint": file_digest(checkpoint), "seed": seed, "truncation": truncation, "block_size": block_size,
                "rows": len(conditions), "conditions": hashlib.sha256(conditions.to_csv(index=False).encode()).hexdigest()}
    if _is_finished(out, settings):
        return Manifest.read(out)
    blocks = []
    with tqdm(total=len(conditions), desc="sampling", unit="image", disable=None) as bar:
        for start in range(0, len(conditions), block_size):
            mark = out / BLOCKS / f"{start:06d}.json"
            rows = _finished_block(mark, out)
            if rows is None:
                rows = _draw_block(generator, conditions, start, block_size, seed, truncation, out, info)
                write_durably(mark, json.dumps(rows).encode())
            blocks += rows
            bar.update(len(rows))
    table = _table(blocks, conditions, seed, info)
    lineage = replace(lineage, settings={**lineage.settings, "seed": seed, "block_size": block_size,
                                         "dtype": "float32", "truncation": truncation})
    made = replace(info, name=f"{info.name} (synthetic)", roots={HERE: str(out)}, lineage=lineage)
    Manifest(table, made).write(out)
    _drop_marks(out)
    return Manifest.read(out)


def _complete(conditions: pd.DataFrame, info: DatasetInfo) -> pd.DataFrame:
    """All condition columns in the info's order; what is absent is unknown."""
    out = pd.DataFrame(index=range(len(conditions)))
    for c in _condition_columns(info):
        blank = np.nan if c.startswith("label:") else ""
        out[c] = conditions[c].to_numpy() if c in conditions else blank
        out[c] = out[c].astype(float) if c.startswith("label:") else out[c].fillna("").astype(object)
    return out


def _is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Whether `out` holds this very set, whole; marks the folder as this set's otherwise."""
    mark = out / MARK
    if mark.is_file():
        if (found := json.loads(mark.read_text())) != settings:
            differing = [k for k in settings if found.get(k) != settings[k]]
            raise InputError(str(out), f"a set with other {', '.join(differing)}", "an empty folder or the same set",
                             "choose another --out, or remove this folder")
        _drop_drafts(out)
        if whole := (out / "dataset.yaml").is_file():  # written last; only the marks may be left of a kill after it
            _drop_marks(out)
        return whole
    _drop_drafts(out)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(str(out), "a folder with other files", "an empty or new folder", "choose another --out")
    write_durably(mark, json.dumps(settings, indent=1).encode())
    return False


def _drop_drafts(out: Path) -> None:
    """Remove what a kill left of half a write_durably: a resumed set has the files of an uninterrupted one."""
    for name in (MARK, "manifest.csv", "dataset.yaml"):
        for draft in out.glob(f".{name}.*"):
            draft.unlink()


def _drop_marks(out: Path) -> None:
    """Remove the marks of finished blocks, once the set is whole."""
    if (out / BLOCKS).is_dir():
        for mark in (out / BLOCKS).iterdir():
            mark.unlink()
        (out / BLOCKS).rmdir()


def _finished_block(mark: Path, out: Path) -> list[dict[str, Any]] | None:
    """The rows of a block whose files all exist with the bytes that were written, else None."""
    if not mark.is_file():
        return None
    rows = json.loads(mark.read_text())
    for row in rows:
        for path, digest in row["files"].items():
            if not (out / path).is_file() or file_digest(out / path) != digest:
                return None
    return rows


def _draw_block(generator: Generator, conditions: pd.DataFrame, start: int, size: int, seed: int, truncation: float,
                out: Path, info: DatasetInfo) -> list[dict[str, Any]]:
    """Draw rows start .. start + size (the last block padded with its last condition) and write their files."""
    numbers = range(start, start + size)
    rows = conditions.iloc[[min(k, len(conditions) - 1) for k in numbers]]
    condition = Condition(labels=rows[[f"label:{c}" for c in info.classes]].to_numpy(dtype=float),
                          attributes=[{a: r[f"attribute:{a}"] for a in info.attributes} for _, r in rows.iterrows()])
    drawn = generator.sample(condition, [image_seed(seed, k) for k in numbers], truncation=truncation)
    names = list(getattr(generator, "spec", {}).get("layers", info.layers))
    return [_write_one(drawn, i, k, out, info, names) for i, k in enumerate(numbers) if k < len(conditions)]


def _write_one(drawn: Images, i: int, k: int, out: Path, info: DatasetInfo, layers: Sequence[str]) -> dict[str, Any]:
    """Write image i of a batch as number k; returns its files with digests, and its areas."""
    from PIL import Image

    from synthrad.data.images import write_mask

    files, areas = {}, {}
    low, high = info.intensity["low"], info.intensity["high"]
    values = (drawn.image[i].double().cpu().numpy() + 1) / 2 * (high - low) + low
    dtype = np.uint16 if high > 255 else np.uint8
    for channel, array in zip(info.channels, values, strict=True):
        path = f"images/{channel}/{k:06d}.png"
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.round().clip(0, np.iinfo(dtype).max).astype(dtype)).save(out / path, format="PNG")
        files[path] = ""
    masks = [] if drawn.masks is None else drawn.masks[i].cpu().numpy()
    for layer, mask in zip(layers, masks, strict=True):
        path = f"masks/{layer}/{k:06d}.png"
        write_mask(out / path, mask.astype(np.uint8))
        files[path] = ""
        areas |= {f"{layer}/{s}": float((mask == j + 1).mean()) for j, s in enumerate(info.layers[layer])}
    for path in files:
        with open(out / path, "rb") as f:
            try:
                os.fsync(f.fileno())
            except OSError as e:
                e.filename = str(out / path)  # a full disk: say where
                raise
        files[path] = file_digest(out / path)
    return {"files": files, "areas": areas}


def _table(blocks: Sequence[Mapping[str, Any]], conditions: pd.DataFrame, seed: int, info: DatasetInfo) -> pd.DataFrame:
    """The rows of the synthetic manifest."""
    columns = empty_columns(info, len(blocks))
    columns |= {c: conditions[c].to_numpy() for c in conditions}
    columns["split"][:], columns["source"][:] = "train", "synthetic"
    columns |= {f"origin:{x}": np.full(len(blocks), "", dtype=object) for x in ("seed", "condition", "mask")}
    for k, block in enumerate(blocks):
        paths = {tuple(Path(p).parts[:2]): p for p in block["files"]}
        columns["subject"][k] = f"synthetic-{k:06d}"
        columns["origin:seed"][k] = str(image_seed(seed, k))
        columns["origin:condition"][k] = _condition_text(conditions.iloc[k])
        for channel in info.channels:
            columns[f"channel:{channel}"][k] = paths["images", channel]
        for layer in info.layers:
            columns[f"mask:{layer}"][k] = paths.get(("masks", layer), "")
            columns["origin:mask"][k] = "joint" if ("masks", layer) in paths else columns["origin:mask"][k]
        columns["digest"][k] = _joined([block["files"][columns[f"channel:{c}"][k]] for c in info.channels])
        columns["mask_digest"][k] = _joined([block["files"].get(columns[f"mask:{x}"][k], "") for x in info.layers])
        for name, area in block["areas"].items():
            columns[f"area:{name}"][k] = area
    return pd.DataFrame(columns)


def _joined(digests: Sequence[str]) -> str:
    """One digest a row, by the rule of data.images.files_digest."""
    if len(digests) == 1 or not any(digests):
        return digests[0] if digests else ""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _condition_text(row: pd.Series) -> str:
    """`caries=1 implant=0 sex=F`; unknown parts are left out."""
    parts = []
    for column, value in row.items():
        if column.startswith("label:") and not np.isnan(value):
            parts.append(f"{column[6:]}={int(value)}")
        elif column.startswith("attribute:") and value:
            parts.append(f"{column[10:]}={value}")
    return " ".join(parts)


def sample_from_checkpoint(checkpoint: Path | str, conditions: pd.DataFrame, seed: int, out: Path | str,
                           block_size: int = 16, truncation: float = 1.0, device: str = "auto") -> Manifest:
    """sample_set with the generator, info and lineage of a checkpoint."""
    import torch

    generator, info, lineage, spec = load_generator(checkpoint)
    conditions = blank_unlearned(conditions, spec, info)
    labels = conditions.reindex(columns=[f"label:{c}" for c in info.classes])
    if (opened := int(labels.isna().any(axis=1).sum())) and not spec["label_dropout"]:
        warnings.warn(f"{opened} of {len(conditions)} conditions leave a label open, and {checkpoint} was trained without "
                      "label_dropout: it may never have seen an open label, so name every label, or train it anew", stacklevel=2)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return sample_set(generator.to(device), checkpoint, conditions, seed, out, info, lineage, block_size, truncation)


# ---- the command


def parser() -> argparse.ArgumentParser:
    """`synthrad sample --help`."""
    p = argparse.ArgumentParser("synthrad sample", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkpoint", required=True, help="last.ckpt of a trained generator")
    p.add_argument("--out", required=True, help="folder of the synthetic set; the same call continues a stopped one")
    p.add_argument("--number", type=int, help="images, for --conditions real alone (default 500)")
    p.add_argument("--seed", type=int, default=0, help="image k draws its noise from this and k alone (default 0)")
    p.add_argument("--conditions", default="real", help="real: as the training rows; each:N: N of each of their distinct "
                   "conditions; a .csv of classes and attributes; a .json plan (default real)")
    p.add_argument("--manifest", help="the real dataset, for real and each:N; the checkpoint must be of it")
    p.add_argument("--truncation", type=float, default=1.0, help="1 = as trained, less = closer to the mean (default 1)")
    p.add_argument("--block-size", type=int, default=16, help="images computed together (default 16)")
    p.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="default: cuda where there is one")
    return p


def run(argv: list[str]) -> int:
    """The command."""
    args = parser().parse_args(argv)
    if args.number is not None and args.conditions != "real":
        raise InputError("--number", f"{args.number} with --conditions {args.conditions}, which says itself how many images",
                         "--number with --conditions real only", "leave --number out")
    number = 500 if args.number is None else args.number
    for name, value in (("number", number), ("block-size", args.block_size)):
        if value < 1:
            raise InputError(f"--{name}", str(value), "a number of at least 1")
    train = None
    if args.manifest:
        train = Manifest.read(args.manifest).where(split="train", source="real")
    _, info, _, _ = load_generator(args.checkpoint)
    if train is not None:
        check_same_dataset(info, train.info, args.checkpoint)
    conditions = read_conditions(args.conditions, info, train, number, args.seed)
    made = sample_from_checkpoint(args.checkpoint, conditions, args.seed, args.out, args.block_size, args.truncation, args.device)
    print(f"{len(made)} images in {args.out}")
    return 0
