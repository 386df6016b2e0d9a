"""The command line: one file per command in `service/commands`, joined here.

Commands import what they need when they run, so `bathyscope --help` and
wrong usage answer at once. A failure is one clear line on standard error
and exit status 1; wrong usage is status 2.
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
from service.process.signals import answer_ending_signals

__all__ = ["command_line", "main"]

_TYPER_INTERRUPTED = 130
"""Status with which typer ends after Ctrl-C, without a word."""

_COMMANDS = ("demo", "serve", "camera", "calibrate", "train", "localize", "track", "evaluate")

_MORE_COMMANDS = "bathyscope.commands"
"""Entry points of this group are commands that other packages of the installation add."""


def command_line() -> typer.Typer:
    """All commands of this installation, those of other packages too."""
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
    ) -> None:
        if debug:
            os.environ["BATHYSCOPE_DEBUG"] = "1"

    for name in _COMMANDS:
        application.command(name)(importlib.import_module(f"service.commands.{name}").run)
    for found in sorted(entry_points(group=_MORE_COMMANDS), key=attrgetter("name")):
        try:
            command = found.load()
        except Exception as error:  # noqa: BLE001  a package that does not load takes only its own command away
            print(f"The command {found.name} of {found.value} cannot be loaded: {error}", file=sys.stderr)
            continue
        if isinstance(command, typer.Typer):  # a command with commands of its own
            application.add_typer(command, name=found.name)
        else:
            application.command(found.name)(command)
    return application


def main() -> None:
    """Run the command line; the entry point of the `bathyscope` script."""
    protect_streams()
    use_writable_caches()
    # A scheduler ends a command with SIGTERM, a lost connection with SIGHUP; it must clean up then, as after Ctrl-C.
    # A background job may have the others ignored.
    answer_ending_signals(_cancel, always=(signal.SIGTERM,))
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
        if is_cancelled():  # some libraries turn the interrupt into an error of their own
            _end_cancelled()
        if os.environ.get("BATHYSCOPE_DEBUG"):
            raise
        print(f"Error: {printable(_explained(error))}", file=sys.stderr)
        sys.exit(1)


def _refuse_empty(arguments: list[str]) -> None:
    """End with status 2 at an argument without text: as a path it would name the folder that one stands in."""
    for before, argument in itertools.pairwise(["", *arguments]):
        if argument == "" or (argument.startswith("--") and argument.endswith("=")):
            place = argument.rstrip("=") or (f"after {before}" if before else "at the beginning")
            print(f"Error: the argument {place} is empty (''). Give it a value, or leave it out.", file=sys.stderr)
            sys.exit(2)


def _cancel(_number: int, _frame: FrameType | None) -> NoReturn:
    cancel()


def _end_cancelled() -> NoReturn:
    print("Cancelled; no output was written.", file=sys.stderr)
    sys.exit(1)


def _explained(error: Exception) -> str:
    """The error in one line: as it was written for the user, or said to be unforeseen."""
    said = " ".join(str(error).split())
    if isinstance(error, BathyscopeError):
        return said
    return (
        f"{type(error).__name__}: {said}. This was not foreseen. "
        "Run `bathyscope --debug ...` to see where it arose, and report it."
    )
