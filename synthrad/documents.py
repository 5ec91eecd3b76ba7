"""YAML, JSON and JSON-lines files that strangers wrote: read with limits, so that a few hundred bytes cannot ask for gigabytes."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from synthrad.errors import InputError

MOST_BYTES = 256 * 2**20  # of a file; a lineage of 200,000 subjects takes some 20 MB
MOST_DEPTH = 100  # mappings and lists inside each other
MOST_REPEATED = 10_000  # nodes that aliases (*name) repeat: an alias bomb writes billions in ten lines
_Safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnsafeYAML(yaml.YAMLError):
    """YAML that asks for more than plain data."""


class _OneOfEachKey(_Safe):
    """Safe loader that refuses a key given twice, of which YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A mapping whose keys differ."""
        seen: dict[Hashable, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":  # <<: *shared
                continue
            line, name = key.start_mark.line + 1, self.construct_object(key, deep=True)
            if not isinstance(name, Hashable):
                continue  # the base class says so
            if name in seen:
                raise InputError(f"{self.name}, line {line}", f"the key {name!r} again, first on line {seen[name]}",
                                 "each key once", "remove one of the two")
            seen[name] = line
        return super().construct_mapping(node, deep)


def check_yaml(text: str | bytes) -> None:
    """Refuse, from the events alone and before anything is built, what safe loaders accept.

    Raises:
        UnsafeYAML: a tag (`!!python/...` and all others), nesting deeper than MOST_DEPTH, an alias inside what it names,
            or aliases that repeat more than MOST_REPEATED nodes.
        yaml.YAMLError: no YAML.
    """
    sizes: dict[str, int] = {}  # of anchors, in nodes
    open_: list[tuple[str | None, int]] = []  # anchor and size so far of the collections around
    repeated = 0
    for event in yaml.parse(text, Loader=_Safe):
        if getattr(event, "tag", None) is not None:
            raise UnsafeYAML(f"line {event.start_mark.line + 1}: the tag {event.tag!r}; plain values need none")
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1))
            if len(open_) > MOST_DEPTH:
                raise UnsafeYAML(f"line {event.start_mark.line + 1}: more than {MOST_DEPTH} levels inside each other")
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_}:
                raise UnsafeYAML(f"line {event.start_mark.line + 1}: the alias *{event.anchor} inside what it names")
            anchor, size = None, sizes.get(event.anchor, 1)
            repeated += size
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        else:
            continue
        if repeated > MOST_REPEATED:
            raise UnsafeYAML(f"line {event.start_mark.line + 1}: aliases that repeat more than {MOST_REPEATED:,} values")
        if anchor is not None:
            sizes[anchor] = size
        if open_:
            open_[-1] = open_[-1][0], open_[-1][1] + size


def read_yaml(path: Path, expected: str) -> Any:
    """The data of a YAML file.

    Raises:
        InputError: no YAML, unsafe YAML (`check_yaml`), a file of more than MOST_BYTES, or a key given twice in one mapping.
    """
    return parse_yaml(_text(path, expected), str(path), expected)


def parse_yaml(text: str, where: str, expected: str) -> Any:
    """The data of YAML text, as `read_yaml` has it; `where` is what messages name."""
    try:
        check_yaml(text)
        loader = _OneOfEachKey(text)
        loader.name = where
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as e:  # a date of month 13, a number of 5,000 digits
        raise InputError(where, f"no YAML ({' '.join(str(e).split())[:160]})", expected) from e


def read_json(path: Path, expected: str, largest: int | None = None) -> Any:
    """The data of a JSON file.

    Raises:
        InputError: no JSON, NaN or Infinity (JSON has neither), too deep, or a file of more than `largest` bytes (default: MOST_BYTES).
    """
    return _parsed(_text(path, expected, largest), str(path), expected)


def read_json_lines(path: Path, expected: str, largest: int | None = None) -> Iterator[tuple[int, Any]]:
    """Number of the line, from 1, and the data of it, of a file with one JSON value a line; blank lines are left out, one line is held at a time.

    Raises:
        InputError: as `read_json`, with the number of the line.
    """
    _check_file(path := Path(path), expected, largest)
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{path}, line {number}"
            if text := _decoded(line, where, expected).strip():
                yield number, _parsed(text, where, expected)


def _parsed(text: str, where: str, expected: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as e:
        raise InputError(where, "lists and objects too deep inside each other", expected) from e
    except ValueError as e:
        raise InputError(where, f"no JSON ({' '.join(str(e).split())[:160]})", expected) from e


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _text(path: Path, expected: str, largest: int | None = None) -> str:
    _check_file(path := Path(path), expected, largest)
    return _decoded(path.read_bytes(), str(path), expected)


def _check_file(path: Path, expected: str, largest: int | None) -> None:
    """Refuse what is no regular file (a pipe has no end) and what is larger than `largest`, None = MOST_BYTES."""
    if not path.is_file():
        raise InputError(str(path), "no such file" if not path.exists() else "no regular file", expected)
    most = MOST_BYTES if largest is None else largest
    if (size := path.stat().st_size) > most:
        raise InputError(str(path), f"a file of {size:,} bytes", f"at most {most:,}")


def _decoded(data: bytes, where: str, expected: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(where, f"bytes that are no UTF-8 ({e.reason} at {e.start})", expected, "save it as UTF-8") from e
