"""Objects that a YAML file names by class_path and init_args."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from synthrad.errors import InputError, InputErrors, near

KEYS = ("class_path", "init_args")
Value = Callable[[str, Any, str], Any]


def build(spec: Any, where: str, ours: Mapping[str, type], command: str, value: Value = lambda key, given, where: given) -> Any:
    """An object from its class_path and init_args.

    Args:
        spec: {class_path: ..., init_args: {...}}. where: for messages, such as the file.
        ours: the classes that it may name, by class_path. command: `synthrad COMMAND` reads it.
        value: what a key, its value and where that stands become, for arguments that are objects themselves.

    Raises:
        InputError: names the key, and the class or argument that may have been meant.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("class_path"), str):
        raise InputError(where, repr(spec)[:80], f"class_path (such as {next(iter(ours))}) and init_args")
    for key in spec:
        if key not in KEYS:
            raise InputError(f"{where}: {key}", "an unknown key", "class_path or init_args", near(str(key), KEYS))
    kind = _class(spec["class_path"], f"{where}: class_path", ours, command)
    given, known = spec.get("init_args") or {}, list(inspect.signature(kind).parameters)
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: init_args", repr(given), f"a mapping of {', '.join(known)}")
    for key in given:
        if key not in known:
            raise InputError(f"{where}: init_args.{key}", "an unknown key", f"one of {', '.join(known) or '(none)'}", near(str(key), known))
    hints = _hints(kind)
    try:
        return kind(**{k: _typed(value(k, v, f"{where}: init_args.{k}"), hints.get(k), f"{where}: init_args.{k}") for k, v in given.items()})
    except InputErrors:
        raise
    except InputError as e:
        raise e if e.where.startswith(where) else InputError(f"{where}: {e.where}", e.found, e.expected, e.repair) from e
    except (TypeError, ValueError, OverflowError, AttributeError, LookupError) as e:  # whatever a class does with values of other types
        raise InputError(f"{where}: init_args", str(e)[:300], f"values of {', '.join(known)}") from e


def arguments_of(kind: type) -> dict[str, Any]:
    """Names of the arguments of a class and their defaults (`inspect.Parameter.empty` for none); ** stands for those of the class that it extends."""
    found: dict[str, Any] = {}
    for owner in kind.__mro__:
        if "__init__" not in vars(owner):
            continue
        own = list(inspect.signature(owner.__init__).parameters.values())[1:]
        found |= {p.name: p.default for p in own if p.kind != p.VAR_KEYWORD and p.name not in found}
        if not any(p.kind == p.VAR_KEYWORD for p in own):
            break
    return found


def _hints(kind: type) -> dict[str, Any]:
    """Types of the arguments of a class; {} where they cannot be told (a name that is imported for type checkers alone)."""
    try:
        return get_type_hints(kind.__init__)
    except (NameError, TypeError, AttributeError):
        return {}


def _typed(given: Any, hint: Any, where: str) -> Any:
    """A value of the type that its argument has; whole numbers become real ones and lists tuples where these are asked for.

    Raises:
        InputError: another type.
    """
    if hint is None:
        return given
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(given)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return given
    except ValidationError as e:
        raise InputError(where, repr(given)[:80], f"{getattr(hint, '__name__', hint)} ({e.errors()[0]['msg']})") from e


def _class(class_path: str, where: str, ours: Mapping[str, type], command: str) -> type:
    """One of ours, or of a package that the user (never the config) allowed."""
    if class_path in ours:
        return ours[class_path]
    package, _, name = class_path.rpartition(".")
    if package and package.split(".")[0] in allowed_packages():
        try:
            return getattr(importlib.import_module(package), name)
        except (ImportError, AttributeError) as e:
            raise InputError(where, f"{class_path!r}: {e}", "a class that can be imported") from e
    raise InputError(where, repr(class_path), f"one of {', '.join(ours)}",
                     _meant(name, ours) or f"a class of your own needs `synthrad --allow-import PACKAGE {command} ...`")


def _meant(name: str, ours: Mapping[str, type]) -> str:
    """By the class's own name: the packages before it are alike."""
    return near(name, [path.rpartition(".")[2] for path in ours])


def allowed_packages() -> list[str]:
    """Packages of the user's own, from SYNTHRAD_ALLOW_IMPORT, which `--allow-import` adds to."""
    return [p.strip() for p in os.environ.get("SYNTHRAD_ALLOW_IMPORT", "").split(",") if p.strip()]
