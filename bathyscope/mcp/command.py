"""`bathyscope mcp`: the tools of a running service for programs that speak the Model Context Protocol."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

__all__ = ["run"]


def run(
    address: Annotated[
        str, typer.Option("--address", metavar="URL", envvar="BATHYSCOPE_ADDRESS", help="Of the running service.")
    ] = "http://127.0.0.1:8000",
    operate_key: Annotated[
        str | None,
        typer.Option(
            "--operate-key",
            metavar="KEY",
            envvar="BATHYSCOPE_OPERATE_KEY",
            show_default=False,
            help="Key with the role operate: adds the tools that move, start and stop. Absent: tools that read only.",
        ),
    ] = None,
) -> None:
    """MCP server on standard input and output, over a running service; reads with the key BATHYSCOPE_ACCESS_KEY."""
    from bathyscope.remote.problems import MissingPackage
    from bathyscope.remote.transports import Place
    from service.commands.console import note

    place = Place.of(address, None)
    try:
        from bathyscope.mcp.server import make_server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "mcp":
            raise
        raise MissingPackage("The package mcp is not installed.", "pip install 'bathyscope[mcp]'") from error
    if sys.stdin.isatty():
        note("Waiting for messages of an MCP client on standard input. Such a client starts this command itself.")
    make_server(place, operate_key).run("stdio")
