"""What of a study file can be checked against the data before the first job: nets, layers, classes, sets, configs, pools."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from synthrad.data.mask_moves import check_transform
from synthrad.data.prompts import Prompt
from synthrad.documents import parse_yaml, read_yaml
from synthrad.errors import InputError, InputErrors, near
from synthrad.filter import load_filter
from synthrad.fusion import Cells
from synthrad.fusion.pool import check_synthetic
from synthrad.records import Manifest
from synthrad.study.description import Source, Study
from synthrad.study.planning import WEIGHTS, Plan, fuse_arm, strategy_of

SELECTION = "synthrad.callbacks.selection.KeepBestKID"


def check_study(study: Study, manifest: Manifest, where: str) -> None:
    """Check all that needs no plan.

    Raises:
        InputErrors: all faults at once, each with its key.
    """
    faults = [f for task in study.tasks for net in study.tasks[task].nets for f in _net_faults(study, manifest, task, net)]
    faults += _faults("endpoint", _check_endpoint, study, manifest)
    faults += _faults("", _check_grids, study, manifest)
    faults += _faults("", Cells(**study.cells).resolve, manifest.where(split="train", source="real"))
    for name, source in study.sources.items():
        faults += _faults(f"sources.{name}", _check_source, source, manifest)
        if source.generator is not None and not faults:
            faults += _faults(f"sources.{name}", _check_starts, study, name, manifest)
        if source.filter is not None:
            faults += _faults(f"sources.{name}.filter", load_filter, source.filter)
    for name, folder in study.external.items():
        faults += _faults(f"external.{name}", _check_external, folder, manifest)
    _refuse(where, faults)


def check_pools(study: Study, manifest: Manifest, plan: Plan, where: str) -> None:
    """Fuse every arm of an imported set without a filter: what is missing there no later job can add; so for untaught labels.

    Raises:
        InputErrors: arms that their set or their generator cannot fill.
    """
    train = manifest.where(split="train", source="real")
    faults = [f for name in study.sources for f in _faults(f"sources.{name}", _check_taught, study, plan, manifest, name)]
    for arm in plan.fitted():
        source = study.sources.get(arm.source or "")
        if arm.role == "control" or source is None or source.generator is not None or source.filter is not None:
            continue
        for draw in range(source.draws):
            made = Manifest.read(source.manifest_of(draw))
            faults += _faults("", fuse_arm, strategy_of(study, arm), arm, train, made)
    _refuse(where, faults)


def _refuse(where: str, faults: Iterable[str]) -> None:
    if faults := list(dict.fromkeys(faults)):
        raise InputErrors(where, faults)


def _faults(key: str, check: Callable, *args: Any) -> list[str]:
    """The fault that a check raises, behind its key."""
    try:
        check(*args)
    except InputError as e:
        return [f"{key}: {e}" if key else str(e)]
    return []


def _net_faults(study: Study, manifest: Manifest, task: str, net: str) -> list[str]:
    """Build a net as its fit will, and let it answer once on an empty picture of the study's size."""
    import torch

    from synthrad.study.one_fit import build_task

    info, size = manifest.info, study.tasks[task].size or study.size
    data = SimpleNamespace(layers=dict(info.layers), classes=info.classes, num_channels=len(info.channels))
    try:
        with torch.no_grad():
            build_task(study.tasks[task], net, data).net.eval()(torch.zeros(1, data.num_channels, *size))
    except InputError as e:
        return [f"tasks.{task}: {e}"]
    except Exception as e:  # timm and smp raise what they like for a wrong argument or size
        return [f"tasks.{task}.nets.{net}: cannot be built for pictures of {size[0]} x {size[1]}: "
                f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"]
    return []


def _check_endpoint(study: Study, manifest: Manifest) -> None:
    task, info = study.tasks[study.endpoint.task], manifest.info
    if task.kind == "classification":
        known = list(task.classes or info.classes)
    else:
        known = [c for layer in task.layers or info.layers for c in info.layers.get(layer, ())]
    for name in study.endpoint.classes or ():
        if name not in known:
            raise InputError("classes", repr(name), f"some of {', '.join(known)}", near(name, known))


def _check_source(source: Source, manifest: Manifest) -> None:
    from synthrad.datamodules.fusion import check_same_shape

    if source.generator is not None:
        _check_generator(source)
        known = _data_options(source).get("layers")
        layers = {k: s for k, s in manifest.info.layers.items() if known is None or k in known}
        check_transform(source.mask_transform, layers, "mask_transform")
        _check_asked_less(source, manifest)
        return
    for draw in range(source.draws):
        folder = source.manifest_of(draw)
        made = Manifest.read(folder)
        check_same_shape(manifest, made, folder)
        if not len(made):
            raise InputError(folder, "no row", "a synthetic set", "sample or import it again")
        check_synthetic(made, folder)


def _check_generator(source: Source) -> None:
    """The config is there and names a generator; its other keys are checked by `synthrad fit`."""
    path = Path(source.generator)
    if not path.is_file():
        beside = [str(p) for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise InputError(str(path), "no such file", "a config of a generator fit", near(str(path), beside))
    config = read_yaml(path, "a config of a generator fit")
    model = config.get("model") if isinstance(config, dict) else None
    named = model.get("class_path") if isinstance(model, dict) else model
    if source.checkpoint == "best" and SELECTION not in f"{config} {source.overrides}":
        raise InputError("checkpoint", f"best, and no {SELECTION} in {path} or overrides", "a callback that keeps one",
                         f"add `- class_path: {SELECTION}` after Fidelity to trainer.callbacks, or leave the key out")
    if any(o.startswith("--model") and not o.startswith("--model.") for o in source.overrides):
        return  # the flag replaces what the file says
    known = _generators()
    expected = f"a generator: {', '.join(n for n in known if not n.startswith('_'))}"
    if not isinstance(named, str):
        raise InputError(f"{path}: model.class_path", repr(named), expected)
    package, _, name = named.rpartition(".")
    if (not package or package.split(".")[0] == "synthrad") and name not in known:  # a user's own package is the user's affair
        raise InputError(f"{path}: model.class_path", repr(named), expected, near(name, list(known)))
    if source.truncation != 1 and not getattr(known.get(name), "takes_truncation", True):
        raise InputError("truncation", str(source.truncation), f"1 for a {name}, which has no mean picture", "leave it out")
    drawn = _model_option(source, "masks") != "given" and not getattr(known.get(name), "draws_from_masks", False)
    if source.mask_transform != "none" and drawn and name in known:
        raise InputError("mask_transform", source.mask_transform, f"none: the generator of {path} draws its masks itself",
                         "leave it out, or train one with model.masks: given")
    if source.prompts is not None and not getattr(known.get(name), "follows_conditions", True):
        raise InputError("prompts", source.prompts, f"nothing: {name} follows no condition", "leave it out")


def _check_asked_less(source: Source, manifest: Manifest) -> None:
    """Refuse to leave findings out of prompts that quote a report, which names them whatever the labels are made to say."""
    template = _data_options(source).get("prompt")
    if template is None or (source.prompts != "single" and source.unnamed != "absent"):
        return
    train = manifest.where(split="train", source="real")
    for name in (a for a in Prompt(str(template)).attributes if a in manifest.info.attributes):
        said = train.column(f"attribute:{name}")
        if len(set(said[said != ""])) * 2 > len(set(train.column("subject")[said != ""])):
            raise InputError("prompts", f"{source.prompts} with unnamed: {source.unnamed}, and a template that quotes {{{name}}}, which is "
                             "free text: its words name findings that the labels would not", "multi with unnamed: unknown",
                             "write prompts from {findings} instead, or leave `prompts` out")


def _generators() -> dict[str, type]:
    """Every class of synthrad.generators by its name."""
    from synthrad import generators

    known: dict[str, type] = {}
    for found in pkgutil.iter_modules(generators.__path__, f"{generators.__name__}."):
        module = importlib.import_module(found.name)
        known |= {n: c for n, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__}
    return known


def _check_taught(study: Study, plan: Plan, manifest: Manifest, name: str) -> None:
    """Refuse cells that name what a generator is not taught (data.classes, data.attributes of its fit): nothing drawn has it."""
    source = study.sources[name]
    if source.generator is None:
        return
    config, options = read_yaml(Path(source.generator), "a config of a generator fit"), _data_options(source)
    model = config.get("model")
    if plan.wanted[name] and ("bottleneck=vq" in str(source.overrides) or "'bottleneck': 'vq'" in str(config)):
        raise InputError(f"{source.generator}: model.bottleneck", "vq", "kl: a codebook has no prior to draw from", "name a latent diffusion "
                         "model on it as the source")
    named = str(model.get("class_path") if isinstance(model, dict) else model).rpartition(".")[2]
    if not getattr(_generators().get(named), "follows_conditions", True):
        options |= {"classes": [], "attributes": []}
    _check_named(source.prompts, plan.wanted[name], manifest)
    for key, known in (("classes", manifest.info.classes), ("attributes", manifest.info.attributes)):
        if options.get(key) is None:
            continue
        untaught = set(known) - set(options[key])
        asked = sorted({part for cell in plan.wanted[name] for part in cell if part.rpartition("=")[0] in untaught})
        if asked:
            raise InputError(f"data.{key}", f"{options[key]}, and arms that ask for {', '.join(asked[:4])}",
                             "cells of what the generator is taught",
                             f"leave {', '.join(sorted(untaught)[:4])} out of `cells` (cells: {{classes: []}} names none), or teach it")


def _data_options(source: Source) -> dict[str, Any]:
    """Which classes, attributes, layers and prompts a generator's fit is told of: its config's, under the source's overrides."""
    data = read_yaml(Path(source.generator), "a config of a generator fit").get("data")
    options = dict(data.get("init_args") or {}) if isinstance(data, dict) else {}
    for flag in source.overrides:
        key, _, value = flag.removeprefix("--data.").removeprefix("init_args.").partition("=")
        if flag.startswith("--data.") and key in TOLD:
            try:
                options[key] = parse_yaml(value, flag, "a list") if key != "prompt" else value
            except InputError as e:
                raise InputError("overrides", repr(flag), "a list as YAML writes it", f"such as --data.{key}=[]") from e
    return options


TOLD = ("classes", "attributes", "layers", "prompt", "prompt_words", "min_subjects")  # what a fit is told of its data
STARTED = {"model.autoencoder": "Autoencoder", "model.base": "Diffusion"}  # options that take a checkpoint of one class only


def _check_starts(study: Study, name: str, manifest: Manifest) -> None:
    """Refuse checkpoints of other sources that the fit would refuse, hours later."""
    source = study.sources[name]
    for option, other in source.starts.items():
        key, begun = option.replace(".init_args", ""), study.sources[other]
        taken = [p for p in inspect.signature(_generators().get(_class_of(source), object).__init__).parameters if p != "self"]
        if "args" not in taken and key.removeprefix("model.") not in taken:
            raise InputError(f"starts.{option}", f"no such option of a {_class_of(source)}", ", ".join(f"model.{p}" for p in taken if p in WEIGHTS),
                             near(key, [f"model.{p}" for p in taken]))
        if given := [o for o in source.overrides if o.startswith((f"--{key}=", f"--{key.replace('model.', 'model.init_args.')}="))]:
            raise InputError(f"starts.{option}", f"{other!r} and {given[0]!r} in overrides", "one of them", "take it out of overrides")
        if key in STARTED and _class_of(begun) != STARTED[key]:
            raise InputError(f"starts.{option}", f"source {other!r}, a {_class_of(begun)}", f"one of class {STARTED[key]}")
        if key in STARTED and (begun.size or study.size) != (source.size or study.size):
            raise InputError(f"starts.{option}", f"source {other!r} of {list(begun.size or study.size)} pixels",
                             f"{list(source.size or study.size)}, the size of {name!r}")
        _check_started_from(key, name, source, other, begun, manifest)


def _check_started_from(key: str, name: str, source: Source, other: str, begun: Source, manifest: Manifest) -> None:
    """Refuse two fits that are told of different data where one builds on the other."""
    mine, theirs = _data_options(source), _data_options(begun)
    masks = lambda told: list(manifest.info.layers if told.get("layers") is None else told["layers"])  # noqa: E731
    if key == "model.base":
        if masks(theirs):
            raise InputError(f"starts.{key}", f"source {other!r} that draws masks of {', '.join(masks(theirs))}", "one of images alone: masks "
                             "steer from beside it", "add --data.layers=[] to its overrides")
        differ = [k for k in TOLD if k != "layers" and mine.get(k) != theirs.get(k)]
    else:
        encoded = masks(theirs) if _model_option(begun, "masks") != "none" else []
        drawn = masks(mine) if _model_option(source, "masks") != "given" else []
        differ = ["layers"] if key == "model.autoencoder" and encoded != drawn else []
    if differ:
        raise InputError(f"starts.{key}", f"source {other!r} with another data.{differ[0]}", f"the same as {name!r}: one builds on the other",
                         "write the same --data flags into both overrides")


def _model_option(source: Source, option: str) -> Any:
    """What a generator's config, under the source's overrides, says of one option of its model; None = nothing."""
    given = [o.split("=", 1)[1] for o in source.overrides if o.startswith((f"--model.{option}=", f"--model.init_args.{option}="))]
    model = read_yaml(Path(source.generator), "a config of a generator fit").get("model")
    options = (model.get("init_args") or {}) if isinstance(model, dict) else {}
    return given[-1] if given else options.get(option)




def _class_of(source: Source) -> str:
    """The class that a generator's config names, without its package."""
    model = read_yaml(Path(source.generator), "a config of a generator fit").get("model")
    flags = [o.split("=", 1)[1] for o in source.overrides if o.startswith("--model=")]
    return str(flags[-1] if flags else model.get("class_path") if isinstance(model, dict) else model).rpartition(".")[2]


def _check_named(prompts: str | None, wanted: Iterable[tuple[str, ...]], manifest: Manifest) -> None:
    """Refuse cells of what the source's prompts leave open: no row that is drawn would count as one of them."""
    if prompts is None:
        return
    open_ = [*manifest.info.classes, *(manifest.info.attributes if prompts == "none" else ())]
    about = lambda part: part.rpartition("=")[0].rpartition("/")[2]  # noqa: E731  a structure of a label's name counts as that label
    if asked := sorted({part for cell in wanted for part in cell if about(part) in open_}):
        raise InputError("prompts", f"{prompts}, and arms that ask for {', '.join(asked[:4])}",
                         f"cells without {'labels and attributes' if prompts == 'none' else 'labels'}: prompts leave some of them open",
                         "write `cells: {classes: []}`, or leave `prompts` out")


def _check_grids(study: Study, manifest: Manifest) -> None:
    """Refuse tasks of another size where letterboxing would round the borders of each size in its own way."""
    from synthrad.data.images import image_size

    if manifest.info.resize != "letterbox" or all(t.size in (None, study.size) for t in study.tasks.values()):
        return
    height, width = study.size
    for record in manifest.where(split="test"):
        shape = image_size(record.channels[0])
        if shape[0] * width != shape[1] * height:
            raise InputError("tasks: size", f"another one than {list(study.size)}, and letterboxed images ({record.channels[0]}: "
                             f"{shape[0]} x {shape[1]})", f"images of the aspect {height}:{width}, so that all sizes show the same",
                             "prepare the dataset with --resize squeeze, or give every task the study's size")


def _check_external(folder: str, manifest: Manifest) -> None:
    from synthrad.datamodules.fusion import check_same_shape

    other = Manifest.read(folder)
    check_same_shape(manifest, other, folder)
    if not len(other.where(split="test")):
        raise InputError(folder, "no row in split 'test'", "test rows", "prepare it again with --fractions")
