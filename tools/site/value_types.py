"""Types of settings and options in plain words."""

from __future__ import annotations

import enum
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_origin

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

__all__ = ["bounds_text", "is_group", "number_text", "table_row", "type_text"]

_NAMES = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "text, kept secret",
}
_SIGNS = {annotated_types.Ge: "≥", annotated_types.Gt: ">", annotated_types.Le: "≤", annotated_types.Lt: "<"}


def type_text(kind: Any) -> str:
    """Describe a type annotation, with its bounds; "or none" is left out.

    Raises
    ------
    KeyError
        For a type that no setting or option had so far.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        return type_text(arguments[0]) + bounds_text(kind.__metadata__)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(each) for each in arguments if each is not types.NoneType)
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {type_text(arguments[0])}"
        return f"{len(arguments)} × {type_text(arguments[0])}"
    if origin is list:
        return f"list of {type_text(arguments[0])}"
    if origin is dict:
        return f"table of {'groups' if is_group(arguments[1]) else type_text(arguments[1])}"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return ", ".join(f"`{each.value}`" for each in kind)
    return _NAMES[kind]


def bounds_text(rules: Any) -> str:
    """The bounds among the metadata of a field, each after a comma."""
    text = ""
    for rule in rules:
        if isinstance(rule, FieldInfo):
            text += bounds_text(rule.metadata)
        elif type(rule) in _SIGNS:
            limit = next(getattr(rule, name) for name in ("ge", "gt", "le", "lt") if hasattr(rule, name))
            text += f", {_SIGNS[type(rule)]} {number_text(limit)}"
    return text


def number_text(value: float) -> str:
    """A number with a comma between thousands: "1,000,000", "0.5"."""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def is_group(kind: Any) -> TypeGuard[type[BaseModel]]:
    """Tell whether a type is a group of settings."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def table_row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
