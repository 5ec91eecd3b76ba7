"""COCO-like annotation files: JSON whose images, annotations and categories have the types that readers count on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired

from synthrad.documents import read_json
from synthrad.errors import InputError, InputErrors

FARTHEST = 1e6  # pixels from the corner: what is drawn farther away is no outline
_FEW = 30  # faults told


def read_lists(path: Path, keys: Sequence[str], expected: str, option: str = "--annotations", largest: int | None = None) -> dict[str, Any]:
    """The data of a COCO-like file whose `keys` hold lists of objects; what is in these is not looked at.

    Args:
        path: of the JSON. expected, option: for messages. largest: bytes of the file (default: that of other JSON).

    Raises:
        InputError: no JSON, a key that is missing or holds something else, or no image.
    """
    data, repair = read_json(path, expected, largest), f"name the right file with {option}"
    if not isinstance(data, dict):
        raise InputError(str(path), f"a {type(data).__name__}", expected, repair)
    if missing := [key for key in keys if key not in data]:
        raise InputError(str(path), f"no {' and no '.join(missing)}", expected, repair)
    if wrong := [key for key in keys if not isinstance(data[key], list) or not all(isinstance(entry, dict) for entry in data[key])]:
        raise InputError(str(path), f"{wrong[0]} that are no list of objects", expected, repair)
    if not data["images"]:
        raise InputError(str(path), "nothing in images", expected, repair)
    return data


def read_coco(path: Path, categories: Sequence[str] = ("categories",), expected: str = "JSON with images, annotations and categories",
              option: str = "--annotations") -> dict[str, Any]:
    """The data of a COCO-like file, checked.

    Args:
        path: of the JSON. categories: keys that hold lists of categories and must not be empty. expected, option: for messages.

    Returns:
        images (id, file_name, perhaps width and height), annotations (image_id, perhaps bbox, segmentation, category_id ...), the
        categories (id, name) and whatever else is in the file; ids are int or str, coordinates finite and within FARTHEST.

    Raises:
        InputErrors: every value of another type, with its place in the file.
    """
    from pydantic import ValidationError

    data = read_lists(path, ("images", "annotations", *categories), expected, option)
    checked, faults = {}, []
    for key, kind in _kinds([*categories, *_further(data)]).items():
        try:
            checked[key] = kind.validate_python(data[key])
        except ValidationError as e:
            told = e.errors(include_input=False, include_url=False)[:_FEW]
            faults += [f"{'.'.join(map(str, (key, *fault['loc'])))}: {fault['msg']}" for fault in told]
    if faults:
        raise InputErrors(str(path), faults[:_FEW])
    if empty := [key for key in categories if not checked[key]]:
        raise InputError(str(path), f"nothing in {empty[0]}", expected, f"name the right file with {option}")
    return {**data, **checked}


def _further(data: dict[str, Any]) -> list[str]:
    return [key for key in data if key.startswith("categories") and data[key]]


def _kinds(categories: Sequence[str]) -> dict[str, Any]:
    from pydantic import ConfigDict, Field, TypeAdapter
    from typing_extensions import TypedDict

    key = int | str
    number = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST, allow_inf_nan=False)]
    size = Annotated[float, Field(ge=0, le=FARTHEST, allow_inf_nan=False)] | None
    name = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
    parts = NotRequired[list[list[number]] | dict[str, Any] | None]
    ids = {k: NotRequired[key | None] for k in ("category_id", "category_id_1", "category_id_2", "category_id_3")}
    fields = {
        "image": {"id": key, "file_name": name, "width": NotRequired[size], "height": NotRequired[size]},
        "mark": {"image_id": key, "bbox": NotRequired[list[number] | None], "segmentation": parts, **ids},
        "category": {"id": key, "name": name | int},
    }
    kinds = {kind: TypedDict(kind, known) for kind, known in fields.items()}
    for kind in kinds.values():
        kind.__pydantic_config__ = ConfigDict(extra="allow")
    lists = {"images": "image", "annotations": "mark", **dict.fromkeys(categories, "category")}
    return {k: TypeAdapter(list[kinds[kind]]) for k, kind in lists.items()}
