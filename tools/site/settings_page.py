"""Reference of the settings, generated from `service.settings.Settings`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from service.settings import Settings
from tools.site.value_types import bounds_text, is_group, table_row, type_text

__all__ = ["settings_page"]

_HEAD = """# Settings

Every setting of `bathyscope.toml`, generated from the code that reads it. Groups are tables of the file:
`engine.batch` is `batch` below `[engine]`. In the environment it is `BATHYSCOPE_ENGINE__BATCH`, which overrides the
file; the command line overrides both. Unknown names are refused. [Operations](../operations.md#settings) explains those
that matter for unattended use, [tracks](../tracks.md) those of the tracker.
"""


def settings_page() -> str:
    """Markdown: a table of each group, with type, range, default and meaning of each setting."""
    lines = [_HEAD]
    for name, group in _groups("", Settings):
        lines += [f"## {name or 'Top level'}", ""]
        if name:
            lines += [" ".join((group.__doc__ or "").strip().split("\n\n")[0].split()), ""]
        lines += ["| setting | value | default | meaning |", "|---|---|---|---|"]
        for field_name, field in group.model_fields.items():
            if not is_group(field.annotation):
                dotted = f"{name}.{field_name}" if name else field_name
                value = type_text(field.annotation) + bounds_text(field.metadata)
                lines.append(table_row(f"`{dotted}`", value, _default(field), field.description or ""))
        lines.append("")
    return "\n".join(lines)


def _groups(name: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield `model` and all groups within it, with their dotted names."""
    yield name, model
    for field_name, field in model.model_fields.items():
        inner = field.annotation
        below = f"{name}.{field_name}" if name else field_name
        if is_group(inner):
            yield from _groups(below, inner)
        for further in get_args(inner):
            if is_group(further):
                yield from _groups(f"{below}.LABEL", further)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined:
        return "the user's data folder" if type_text(field.annotation) == "path" else "none"
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if value == "":
        return "empty"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
