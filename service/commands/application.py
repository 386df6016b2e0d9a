"""The command line: one file per command in `service/commands`, joined here.

A command imports its libraries when it runs. `bathyscope --help` and messages
about wrong usage therefore appear at once. A failure prints one line on
standard error and ends with exit status 1; wrong usage ends with status 2.
"""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import sys
from importlib.metadata import entry_points
from operator import attrgetter
from types import FrameType
from typing import NoReturn

import typer

from bathyscope_errors import BathyscopeError
from service.commands.console import cancel, is_cancelled, printable, protect_streams
from service.process.caches import use_writable_caches
from service.process.signals import handle_ending_signals
from service.version import installed_version

__all__ = ["command_line", "main"]

_TYPER_INTERRUPTED = 130
"""Status with which typer ends after Ctrl-C; it prints nothing."""

_COMMANDS = (
    "demo", "serve", "camera", "cameras", "calibrate", "train", "localize", "track", "measure", "export", "evaluate",
    "reprocess", "copy-off", "relay", "retention", "doctor",
)  # fmt: skip

_GROUPS = ("key", "model")
"""Commands that have commands of their own."""

_MORE_COMMANDS = "bathyscope.commands"
"""Group of entry points with which other installed packages add commands."""


def command_line() -> typer.Typer:
    """All commands of this installation, with those of other packages."""
    application = typer.Typer(
        name="bathyscope",
        help="Live 3D tracking on an ordinary wide-field microscope.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @application.callback()
    def _options(
        debug: bool = typer.Option(False, "--debug", envvar="BATHYSCOPE_DEBUG", help="Show tracebacks."),
        version: bool = typer.Option(
            False, "--version", is_eager=True, callback=_show_version, help="Show the version."
        ),
    ) -> None:
        if debug:
            os.environ["BATHYSCOPE_DEBUG"] = "1"

    for name in _COMMANDS:
        application.command(name)(importlib.import_module(f"service.commands.{name.replace('-', '_')}").run)
    for name in _GROUPS:
        application.add_typer(importlib.import_module(f"service.commands.{name}").application, name=name)
    for found in sorted(entry_points(group=_MORE_COMMANDS), key=attrgetter("name")):
        try:
            command = found.load()
        except Exception as error:  # noqa: BLE001  a package that does not load must not disable the other commands
            print(f"The command {found.name} of {found.value} cannot be loaded: {error}", file=sys.stderr)
            continue
        if isinstance(command, typer.Typer):  # a group of commands
            application.add_typer(command, name=found.name)
        else:
            application.command(found.name)(command)
    return application


def _show_version(asked: bool) -> None:
    if asked:
        print(installed_version())
        raise typer.Exit


def main() -> None:
    """Run the command line; the entry point of the `bathyscope` script."""
    protect_streams()
    use_writable_caches()
    # A scheduler ends a command with SIGTERM, a lost connection with SIGHUP. The command must then clean up, as after
    # Ctrl-C. The other signals may be ignored in a background job, and stay so.
    handle_ending_signals(_cancel, always=(signal.SIGTERM,))
    _refuse_empty(sys.argv[1:])
    try:
        command_line()(standalone_mode=True)
    except KeyboardInterrupt:
        _end_cancelled()
    except SystemExit as end:
        if end.code == _TYPER_INTERRUPTED:
            _end_cancelled()
        raise
    except Exception as error:
        if is_cancelled():  # some libraries replace KeyboardInterrupt by an error of their own
            _end_cancelled()
        if os.environ.get("BATHYSCOPE_DEBUG"):
            raise
        print(f"Error: {printable(_message_of(error))}", file=sys.stderr)
        sys.exit(1)


def _refuse_empty(arguments: list[str]) -> None:
    """End with status 2 when an argument is empty. As a path it would mean the current folder."""
    for previous, argument in itertools.pairwise(["", *arguments]):
        if argument == "" or (argument.startswith("--") and argument.endswith("=")):
            place = argument.rstrip("=") or (f"after {previous}" if previous else "at the beginning")
            print(f"Error: the argument {place} is empty (''). Give it a value, or leave it out.", file=sys.stderr)
            sys.exit(2)


def _cancel(_number: int, _frame: FrameType | None) -> NoReturn:
    cancel()


def _end_cancelled() -> NoReturn:
    print("Cancelled; no output was written.", file=sys.stderr)
    sys.exit(1)


def _message_of(error: Exception) -> str:
    """The error in one line. An error without a remedy is reported as unexpected."""
    text = " ".join(str(error).split())
    if isinstance(error, BathyscopeError):
        return text
    return (
        f"{type(error).__name__}: {text}. This error is unexpected. "
        "Run `bathyscope --debug ...` to see where it occurred, and report it."
    )
