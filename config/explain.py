"""Refused settings as lines for a person: place, parameter, value received, valid range."""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from config.layers import KeyPath, Layer, model_of, parameters, value_at
from pipeline.errors import SettingsError

SHOWN_CHARACTERS = 120
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
BOUNDS = {
    "ge": ">=",
    "gt": ">",
    "le": "<=",
    "lt": "<",
    "min_length": "length >=",
    "max_length": "length <=",
    "pattern": "like",
}
UNIONS = (Union, UnionType)
TYPES: dict[Any, str] = {
    NoneType: "null",
    bool: "true | false",
    int: "a whole number",
    float: "a finite number",
    Decimal: "an exact number",
    str: "text",
    SecretStr: "text",
    Path: "a path",
    date: "a date YYYY-MM-DD",
}


def explain(model: type[BaseModel], layers: tuple[Layer, ...], wrong: ValidationError, values: dict[str, Any]) -> str:
    """One line for each mistake: `place: path = value; valid: range`."""
    return "\n".join(_line(model, layers, error, values) for error in wrong.errors(include_url=False))


def _line(model: type[BaseModel], layers: tuple[Layer, ...], error: ErrorDetails, values: dict[str, Any]) -> str:
    """One mistake."""
    path = tuple(str(part) for part in error["loc"])
    where, dotted = _place(layers, path), ".".join(path)
    if error["type"] == "extra_forbidden":
        return f"{where}: {dotted} is no parameter; {_nearest(model, path)}"
    owner = _owner(model, path)
    if owner is None:
        return f"{where}: {dotted or 'settings'}: {_reason(error)}"
    received = "a secret that is not shown" if _is_secret(owner) else _shown(_value(values, path))
    return f"{where}: {dotted} = {received}; valid: {valid_range(owner)} ({_reason(error)})"


def _reason(error: ErrorDetails) -> str:
    """Pydantic's sentence, without its prefix."""
    return error["msg"].removeprefix("Value error, ")


def _place(layers: tuple[Layer, ...], path: KeyPath) -> str:
    """The highest place that says something about the parameter or the section around it."""
    for length in range(len(path), 0, -1):
        for layer in reversed(layers):
            if layer.holds(path[:length]):
                return layer.place(path[:length])
    return "settings"


def _nearest(model: type[BaseModel], path: KeyPath) -> str:
    """What the writer may have meant."""
    section: type[BaseModel] | None = model
    for part in path[:-1]:
        info = section.model_fields.get(part) if section else None
        section = model_of(info.annotation) if info else None
    names = sorted(section.model_fields) if section else []
    near = get_close_matches(path[-1], names, n=1)
    return f"did you mean {near[0]}?" if near else f"valid: {', '.join(names)}"


def _owner(model: type[BaseModel], path: KeyPath) -> FieldInfo | None:
    """The parameter that `path` names or lies in."""
    return next((info for known, info in parameters(model) if path[: len(known)] == known), None)


def _value(values: Any, path: KeyPath) -> Any:
    """What stands at the path, or the nearest thing above it that is no section."""
    for part in path:
        if isinstance(values, Mapping) and part in values:
            values = values[part]
    return values


def _shown(value: Any) -> str:
    """The value, one line, cut; user and password of an address masked."""
    text = CREDENTIALS.sub("***@", repr(value))
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({len(text)} characters)"


def _is_secret(info: FieldInfo) -> bool:
    """Whether the parameter's value must never be shown."""
    return SecretStr in (info.annotation, *get_args(info.annotation))


def valid_range(info: FieldInfo) -> str:
    """What a parameter accepts, in words: its type, its bounds or its choices."""
    bounds = [f"{sign} {found}" for name, sign in BOUNDS.items() if (found := _bound(info, name)) is not None]
    return " ".join([_type_text(info.annotation), " and ".join(bounds)]).rstrip()


def _bound(info: FieldInfo, name: str) -> Any:
    """One bound out of the field's constraints."""
    return next((found for rule in info.metadata if (found := getattr(rule, name, None)) is not None), None)


def _type_text(annotation: Any) -> str:
    """A type as people say it."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(str(choice) for choice in parts)
    if origin is Annotated:
        return _type_text(parts[0])
    if origin in UNIONS:
        return " | ".join(_type_text(part) for part in parts)
    if origin is not None:
        return f"a {origin.__name__} of {', '.join(_type_text(part) for part in parts if part is not Ellipsis)}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(choice.value) for choice in annotation)
    return TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)))


# ---- what pydantic would take and we do not ------------------------------------------------------------------


def refuse_booleans(model: type[BaseModel], layers: tuple[Layer, ...], values: dict[str, Any]) -> None:
    """Raise SettingsError where `true` or `false` stands for a number: pydantic reads them as 1 and 0."""
    for path, info in parameters(model):
        if bool in (info.annotation, *get_args(info.annotation)):
            continue
        if any(isinstance(found, bool) for found in _flat(value_at(values, path))):
            where, dotted = _place(layers, path), ".".join(path)
            raise SettingsError(f"{where}: {dotted} = {_shown(value_at(values, path))}; valid: {valid_range(info)}")


def _flat(value: Any) -> Iterator[Any]:
    """The value, or every element of a list."""
    yield from value if isinstance(value, list) else [value]


# ---- showing ---------------------------------------------------------------------------------------------------


def leaf_text(settings: BaseModel, path: KeyPath) -> str:
    """The parameter's value as `fleet check` prints it; secrets as stars."""
    value: Any = settings
    for part in path:
        value = getattr(value, part)
    return _plain(value)


def _plain(value: Any) -> str:
    """A value as YAML would write it, roughly."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, frozenset):  # a set's own order changes from process to process
        return "[" + ", ".join(sorted(_plain(part) for part in value)) + "]"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_plain(part) for part in value) + "]"
    return str(value.value) if isinstance(value, Enum) else str(value)
