"""The command line: one file per command in `service/commands`, joined here.

Commands import what they need when they run, so `bathyscope --help` and
wrong usage answer at once. A failure is one clear line on standard error
and exit status 1; wrong usage is status 2.
"""

from __future__ import annotations

import importlib
import os
import sys

import typer

__all__ = ["main"]

_COMMANDS = ("demo", "serve", "camera", "calibrate", "train", "localize", "track", "evaluate", "reproduce")


def _application() -> typer.Typer:
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
        module = importlib.import_module(f"service.commands.{name}")
        application.command(name)(module.run)
    return application


def main() -> None:
    """Run the command line; the entry point of the `bathyscope` script."""
    try:
        _application()(standalone_mode=True)
    except KeyboardInterrupt:
        print("Cancelled; nothing was written.", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if os.environ.get("BATHYSCOPE_DEBUG"):
            raise
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
