"""What jsonargparse and torch say of a config, in one clear line."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer

from synthrad.class_paths import arguments_of
from synthrad.config_names import ALLOWED, KINDS, known_classes
from synthrad.errors import InputError, near


def explain(message: str) -> InputError:
    """One clear line from jsonargparse's pages: which key, what was found, what is known, what is close."""
    keys = re.findall(r'Parser key "([^"]+)"', message)
    key = ".".join(keys) or "command line"
    if unknown := re.search(r"unrecognized arguments?: *(\S+)", message, re.I):
        flag = unknown.group(1).split("=")[0]
        return InputError(flag, "an unknown key", "a key of the command", near(flag.lstrip("-"), _trainer_keys()))
    if refused := re.search(r"Importing '([^']+)' is not allowed", message):
        return InputError(key, f"a class path {refused.group(1)!r} outside the known packages", ", ".join(ALLOWED),
                          "if it is yours: `synthrad --allow-import PACKAGE ...` or SYNTHRAD_ALLOW_IMPORT=PACKAGE")
    if option := re.search(r"Option '([^']+)' is not accepted", message):
        owner = re.findall(r"Problem with given class_path '([^']+)'", message)
        known = _arguments_of(owner[-1]) if owner else []
        return InputError(f"{key}.{option.group(1)}", "an unknown key", f"one of {', '.join(known)}",
                          near(option.group(1), known))
    name = re.findall(r"Expected a dot import path string: *(\S+)", message)
    name += re.findall(r"Unable to import.*?'([\w.]+)'|No module named '([\w.]+)'|module '[\w.]+' has no attribute '(\w+)'", message)
    if name:
        found = name[-1] if isinstance(name[-1], str) else next(n for n in name[-1] if n)
        known = sorted(known_classes(KINDS.get(key.split(".")[-1], ("tasks", "nets", "fusion", "datamodules", "generators"))))
        return InputError(key, f"the class {found!r}", f"one of {', '.join(known)}", near(found.split(".")[-1], known))
    if required := re.search(r"arguments? are required: *(.+)|Key \"([^\"]+)\" is required", message):
        missing = (required.group(1) or required.group(2)).strip()
        return InputError(key, f"no value for {missing!r}", "one", f"add `{missing}` to a config or as --{key}.{missing}=...")
    if gone := re.search(r"File does not exist: *'?([^'\n]+)'?", message):
        return InputError(f"--{key}", f"no file {gone.group(1)!r}", "a config file", near(gone.group(1), _configs()))
    if value := re.search(r"Expected an? (<class '([^']+)'>|[^\n.]+)[^\n]*?(?:Got value: *([^\n]+))?(?:\n|$)", message):
        kind = value.group(2) or value.group(1)
        got = re.findall(r"Got value: *([^\n]+)|Given value: *([^\n]+)", message)
        shown = next((a or b for a, b in got), "another value")
        if choices := re.search(r"Expected an? typing\.Literal\[([^\]]+)\]", message):
            known = [c.strip(" '") for c in choices.group(1).split(",")]
            number = "a number or " if "Expected a <class 'float'>" in message else ""
            return InputError(key, shown, f"{number}one of {', '.join(known)}", near(shown, known))
        return InputError(key, shown, f"a value of type {kind}")
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    return InputError(key, "; ".join(lines[1:4]) or message.strip()[:300], "a valid configuration", "see `synthrad fit --help`")


def _configs() -> list[str]:
    return [str(p) for p in Path("configs").rglob("*.yaml")]


def _trainer_keys() -> list[str]:
    return [f"trainer.{n}" for n in arguments_of(Trainer)] + ["seed_everything", "ckpt_path"]


def _arguments_of(class_path: str) -> Iterable[str]:
    module, name = class_path.rsplit(".", 1)
    return arguments_of(getattr(importlib.import_module(module), name))


def our_own(error: BaseException) -> BaseException:
    """The InputError that jsonargparse has wrapped, where it tried a class as one kind of several; else the error itself."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, InputError):
        seen = seen.__cause__ or seen.__context__
    return seen or error


@contextmanager
def told_of_other_weights(path: Path | str | None) -> Iterator[None]:
    """One clear line where a checkpoint's weights are not this model's.

    Raises:
        InputError: with the first difference that torch names.
    """
    try:
        yield
    except RuntimeError as e:
        lines = [line.strip() for line in str(e).splitlines()]
        if not lines or "loading state_dict" not in lines[0]:
            raise
        raise InputError(f"ckpt_path {path}", f"weights of another model ({' '.join(lines[1:2])[:200]})",
                         "a checkpoint of this model on data with the same classes, layers and channels",
                         "give the config and the manifest that it was trained with") from e
