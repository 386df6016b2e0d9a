"""Reference of the commands, generated from the command line itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from service.commands.application import command_line
from tools.site.value_types import number_text, table_row, type_text

__all__ = ["commands", "commands_page"]

_HEAD = """# Commands

Every command with its arguments and options, generated from the command line. `bathyscope COMMAND --help`
prints the same. The exit status is 0 after success, 1 after a failure, which is one line on standard error, and 2 after
wrong usage.
"""


def commands_page() -> str:
    """Markdown: usage, purpose, arguments and options of each command."""
    lines = [_HEAD]
    for words, command in commands():
        lines += [f"## bathyscope {words}", "", _purpose(command), "", "```text", _usage(words, command), "```", ""]
        if command.params:
            lines += ["| argument or option | value | default | meaning |", "|---|---|---|---|"]
            lines += [_row(parameter) for parameter in command.params]
        lines.append("")
    return "\n".join(lines)


def commands() -> Iterator[tuple[str, Any]]:
    """Yield all commands that do something, with the words that call them: "train", "model export"."""
    yield from _below("", get_command(command_line()))


def _below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
    else:
        for name, each in inner.items():
            yield from _below(f"{words} {name}".strip(), each)


def _purpose(command: Any) -> str:
    """The docstring without the sections of numpy style, which describe the function."""
    return re.split(r"\n\s*\w+\n\s*-{3,}", command.help or "")[0].strip()


def _usage(words: str, command: Any) -> str:
    arguments = [_argument(each) for each in command.params if each.param_type_name == "argument"]
    return " ".join(["bathyscope", words, "[OPTIONS]", *arguments])


def _argument(parameter: Any) -> str:
    shown = (parameter.metavar or parameter.name).strip("{}[]").upper()
    return shown if parameter.required else f"[{shown}]"


def _row(parameter: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    is_flag = not is_argument and parameter.is_flag
    name = _argument(parameter).strip("[]") if is_argument else ", ".join((*parameter.opts, *parameter.secondary_opts))
    value = "" if is_flag else type_text(parameter.type_descriptor.annotation)
    value += f", ≥ {number_text(parameter.min)}" if parameter.min is not None else ""
    value += f", ≤ {number_text(parameter.max)}" if parameter.max is not None else ""
    default = "required" if parameter.required else ""
    if not default and not is_flag and isinstance(parameter.default, str | int | float):
        default = f"`{parameter.default}`"
    variable = f" Environment: `{parameter.envvar}`." if parameter.envvar else ""
    return table_row(f"`{name}`", value, default, (parameter.help or "") + variable)
