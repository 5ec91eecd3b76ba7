"""The fusion strategies and cells that a study names, as objects."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import TypeAdapter, ValidationError

from synthrad.errors import InputError, near
from synthrad.study.description import Arm


def build_strategy(arm: Arm, cells: dict[str, Any], where: str) -> Any:
    """The strategy object of an arm; `cells` (study wide) fills its `cells` argument where it has one."""
    from synthrad import fusion

    names = sorted(n for n in fusion.__all__ if isinstance(getattr(fusion, n), type)
                   and issubclass(getattr(fusion, n), fusion.FusionStrategy) and n != "FusionStrategy")
    if arm.strategy not in names:
        raise InputError(f"{where}.strategy", repr(arm.strategy), f"one of {', '.join(names)}", near(arm.strategy, names))
    kind = getattr(fusion, arm.strategy)
    known = list(inspect.signature(kind.__init__).parameters)[1:]
    for key in arm.args:
        if key not in known:
            raise InputError(f"{where}.args.{key}", "an unknown key", f"one of {known}", near(key, known))
    args = dict(arm.args)
    if "cells" in known and cells and "cells" not in args:
        args["cells"] = build_cells(cells, f"{where}: cells")
    elif isinstance(args.get("cells"), dict):
        args["cells"] = build_cells(args["cells"], f"{where}.args.cells")
    try:
        return kind(**args)
    except TypeError as e:
        raise InputError(where, str(e), f"the arguments of {arm.strategy}") from e
    except InputError as e:  # a strategy knows neither file nor arm
        raise InputError(f"{where}.args: {e.where}", e.found, e.expected, e.repair) from e


def build_cells(cells: dict[str, Any], where: str) -> Any:
    """Cells of a mapping, its keys and the kinds of its values checked."""
    from synthrad.fusion import Cells

    known = list(inspect.signature(Cells).parameters)
    for key in cells:
        if key not in known:
            raise InputError(f"{where}.{key}", "an unknown key", f"one of {known}", near(str(key), known))
    try:
        TypeAdapter(Cells).validate_python(cells)
    except ValidationError as e:
        error = e.errors()[0]
        raise InputError(".".join([where, *map(str, error["loc"])]), repr(error["input"]), error["msg"]) from e
    return Cells(**cells)
