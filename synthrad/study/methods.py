"""The Methods paragraphs of a paper, written from the study file and from what the run left behind; nothing is guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthrad.documents import read_yaml
from synthrad.manifest_table import SPLITS
from synthrad.metrics import segmentation
from synthrad.records import Manifest
from synthrad.statistics.layouts import FEWEST_SEEDS
from synthrad.study.audits import SetAudit
from synthrad.study.description import Source, Study, Task
from synthrad.study.pools import checkpoint_of
from synthrad.study.verdicts import METRIC_NAMES, Comparisons

RESAMPLES = 1000  # of the crossed bootstrap: the default of comparisons.compare
CONTROLS = {"DuplicateReal": "real rows repeated", "AugmentedReal": "those repeats after strong augmentation"}


def methods(folder: Path, study: Study, manifest: Manifest, graph: Mapping[str, Any], arms: Sequence[Mapping[str, Any]], pools: Mapping[str, Sequence[Manifest]],
            comparisons: Comparisons, audits: Sequence[SetAudit], versions: Mapping[str, str], cpu: str) -> list[tuple[str, str]]:
    """(heading, paragraph) each, in the order of a paper.

    Args:
        folder: run folder, for the generators' own configs. graph: its graph.json. arms: the arms/<arm>.json mappings. pools: source -> its sets.
    """
    return [("Data", _data(study, manifest)),
            *([("Synthetic images", " ".join(_source(folder, study, name, manifest, pools) for name in graph["sources"]))] if graph["sources"] else []),
            ("Arms", _arms(study, arms)),
            ("Downstream training", " ".join(_task(name, task, study) for name, task in study.tasks.items())),
            ("Endpoint and inference", _inference(study, comparisons)),
            ("Privacy", _privacy(audits)),
            ("Software", f"All steps were run with synthrad {versions.get('synthrad', '')} on {cpu or 'an unknown processor'}: "
             + ", ".join(f"{k} {v}" for k, v in versions.items() if k != "synthrad") + f". The configuration's hash is {graph['identity']}.")]


def _data(study: Study, manifest: Manifest) -> str:
    info, real = manifest.info, manifest.where(source="real")
    parts = {s: part for s in SPLITS if len(part := real.where(split=s))}
    counted = ", ".join(f"{name} {_counted(part)}" for name, part in parts.items())
    apart = sum(len(set(p.column("subject"))) for p in parts.values()) == len(set(real.column("subject")))
    said = (f"{_counted(real).capitalize()} came from the dataset {info.name}{f' (licence: {info.licence})' if info.licence else ''}. "
            f"They had been split before the study: {counted}; {'no patient is in two splits' if apart else 'PATIENTS ARE IN MORE THAN ONE SPLIT'}. "
            f"Images were brought to {_size(study.size)} pixels ({info.resize}); stored values from {info.intensity['low']:g} to {info.intensity['high']:g} became "
            "−1 to 1, and values outside were cut.")
    if study.external:
        said += f" {len(study.external)} external test set{'s were' if len(study.external) > 1 else ' was'} only tested on: {', '.join(study.external)}."
    return said


def _counted(manifest: Manifest) -> str:
    return f"{len(manifest)} images of {len(set(manifest.column('subject')))} patients"


def _size(size: Sequence[int]) -> str:
    return f"{size[0]} × {size[1]}"


def _source(folder: Path, study: Study, name: str, manifest: Manifest, pools: Mapping[str, Sequence[Manifest]]) -> str:
    source, sets = study.sources[name], pools.get(name, ())
    if source.generator is None:
        return f"The set {name} was made elsewhere and imported ({', '.join(f'{len(p)} images' for p in sets)}).{_filter(folder, name, source)}"
    config = _config_of(folder, name)
    model, data = config.get("model", {}), config.get("data", {}).get("init_args", {})
    own = model.get("init_args", {})
    kind = str(model.get("class_path", source.generator)).rsplit(".", 1)[-1]
    train = manifest.where(split="train", source="real")
    seen = f" until it had seen {own['max_images']:,} images" if isinstance(own.get("max_images"), int) else ""
    begun = own.get("init_from")
    batch = f", batch {data['batch_size']}" if data.get("batch_size") else ""
    text = (f"Generator {name} ({kind}, {source.generator}{f' with {chr(32).join(source.overrides)}' if source.overrides else ''}) was trained on the {len(train)} training images{'' if begun else ' alone'}, at "
            f"{_size(source.size or study.size)} pixels{seen}{batch}.")
    text += f" It began with the weights of another generator ({Path(begun).name})." if begun else ""
    if source.starts:
        text += f" It started from {', '.join(f'{other} ({option})' for option, other in source.starts.items())}."
    if not sets:
        return text + " No image was drawn from it."
    drawn = "; ".join(f"{len(p)} images" for p in sets)
    how = [f"truncation {source.truncation:g}"] if source.truncation != 1 else []
    how += [f"masks of training patients moved by `{source.mask_transform}`"] if source.mask_transform != "none" else []
    how += [f"prompts {source.prompts}"] if source.prompts else []
    return (f"{text} From its {source.checkpoint} weights {len(sets)} set{'s were' if len(sets) > 1 else ' was'} kept ({drawn}){f', {chr(44).join(how)}' if how else ''}."
            f"{_filter(folder, name, source)}")


def _config_of(folder: Path, name: str) -> dict[str, Any]:
    """What the generator's fit wrote of its settings; {} where it did not."""
    made = folder / "sources" / name / "generator.json"
    path = checkpoint_of(folder, name).parents[1] / "config.yaml" if made.is_file() else made
    return (read_yaml(path, "the settings of a fit") or {}) if path.is_file() and path.suffix == ".yaml" else {}


def _filter(folder: Path, name: str, source: Source) -> str:
    path = folder / "sources" / name / "filter_log.json"
    if source.filter is None or not path.is_file():
        return " No image was filtered out."
    rounds = [r for draw in json.loads(path.read_text()) for r in draw]
    kept, gone = (sum(r[k] for r in rounds) for k in ("kept", "rejected"))
    return f" {rounds[0]['filter'] if rounds else source.filter} kept {kept} of {kept + gone} drawn images."


def _arms(study: Study, arms: Sequence[Mapping[str, Any]]) -> str:
    told = []
    for row in arms:
        name, args = row.get("name") or row.get("arm"), study.arms[row["name"]].args if row.get("name") in study.arms else {}
        given = f" ({', '.join(f'{k} = {v}' for k, v in args.items())})" if args else ""
        if row.get("same_as"):
            told.append(f"{name}: {row['strategy']}{given} adds no row to these data and equals {row['same_as']}")
        elif row.get("role") == "control":
            told.append(f"{name}: {row['rows_real']} real rows and {row['rows_added']} more, {CONTROLS.get(row['strategy'], row['strategy'])}")
        else:
            added = f" and {row['rows_added']} synthetic rows of {row['source']}" if row.get("source") else ""
            told.append(f"{name}: {row['strategy']}{given}, {row['rows_real']} real rows{added}")
    longer = {"steps": "the same number of optimizer steps", "real_exposure": "steps in proportion to its rows, so that real rows were seen as often"}[study.budget]
    return f"Training sets were compared that differ in nothing but their rows. {'; '.join(told)}. Each arm was trained for {longer}."


def _task(name: str, task: Task, study: Study) -> str:
    named = [(kind, names) for kind, names in (("layer", task.layers), ("class", task.classes)) if names]
    what = " and ".join(f"{kind if len(n) == 1 else {'layer': 'layers', 'class': 'classes'}[kind]} {', '.join(n)}" for kind, n in named)
    what = what or f"all {'mask layers' if task.kind == 'segmentation' else 'classes'} of the dataset"
    own = {n: {**net.init_args, **net.rates()} for n, net in task.nets.items()}
    nets = ", ".join(f"{n} ({net.class_path.rsplit('.', 1)[-1]}: {', '.join(f'{k} = {v}' for k, v in own[n].items())})" for n, net in task.nets.items())
    weights = any(v for net in task.nets.values() for k, v in net.init_args.items() if "weights" in k or "pretrained" in k)
    return (f"Task {name} ({task.kind} of {what}) was learned by {nets}, {'from the named weights' if weights else 'from random weights that depend on the seed alone'}, at "
            f"{_size(task.size or study.size)} pixels: {task.steps} steps of AdamW (learning rate {task.learning_rate:g}{_rates(task)}, cosine schedule), batch {task.batch_size}{_loss(task)}, precision "
            f"{task.precision}, {_augmentation(task)} in all arms. Of {task.validations} validations the best weights were taken and tested once on real test images, "
            f"for each of {study.seeds} seeds; the same seeds and test images were used in all arms.")


def _augmentation(task: Task) -> str:
    if task.views == 0:
        return "no augmentation"
    return "light augmentation" if task.views is None else f"{task.views} fixed light augmentations of each training image"


def _rates(task: Task) -> str:
    said = [f"{task.head_learning_rate:g} in the head"] if task.head_learning_rate else []
    said += [f"{task.layer_decay:g} times that in each layer below another"] if task.layer_decay else []
    said += [] if task.decay_all else ["no weight decay on norms, biases and embeddings of places"]
    return "".join(f", {s}" for s in said)


def _loss(task: Task) -> str:
    if task.loss == "cross_entropy":
        return ""
    said = ", ".join(f"{k} = {v:g}" for k, v in task.loss_options.items())
    return f", {task.loss.replace('_', ' ')} loss{f' ({said})' if said else ''}"


def _inference(study: Study, comparisons: Comparisons) -> str:
    end = comparisons.endpoint
    classes = ", ".join(end.classes or ()) or "all classes"
    text = (f"The primary endpoint, declared and hashed before the first fit, was {METRIC_NAMES[end.metric]} over {classes} (task {end.task}, net {end.net}); "
            f"the smallest relevant difference was {end.smallest_relevant:g}, the margin of equivalence {end.margin:g}. ")
    if end.metric in segmentation.METRICS:
        text += ("Differences were taken per patient and seed and analysed as a two-way layout in which seeds and patients are crossed, with Satterthwaite's degrees of freedom. ")
    else:
        text += f"Differences were resampled by a bootstrap in which seeds and patients (with all their images) are drawn independently, {RESAMPLES:,} times. "
    text += f"Intervals ({100 * (1 - end.alpha):g} %) hold for other test patients and other {comparisons.generalises_over}. "
    if comparisons.mechanics:
        return text + "This was a mechanics run: no p-value was computed and no arm was judged."
    text += (f"A gain was claimed only where an arm exceeded the real data alone and each of its controls (the largest of these one-sided p-values, Holm over the arms at "
             f"{end.alpha:g}); a synthetic-only arm was tested for equivalence by two one-sided tests. Harm was an interval wholly below 0, not corrected for the number of arms. ")
    if study.seeds < FEWEST_SEEDS:
        text += f"With {study.seeds} seeds, fewer than {FEWEST_SEEDS}, no p-value was given. "
    if comparisons.longer is not None:
        text += "The reference was also trained for twice the steps, to see whether it had been trained long enough. "
    return text + "Everything but the endpoint is exploratory."


def _privacy(audits: Sequence[SetAudit]) -> str:
    if not audits:
        return "The study drew no synthetic set."
    done = [a for a in audits if a.record]
    if not done:
        return "No synthetic set was audited for what it gives away of training patients."
    told = "; ".join(f"the set {a.where} ({a.record['images']} images) {a.says}" for a in done)
    return ("Training patients were compared with test patients by the similarity of each to its nearest synthetic image, and the power of each comparison was measured on copies of "
            f"training images that were planted into the set ({done[0].record['trials']} trials a kind); rungs were corrected together by Holm's method: {told}.")
