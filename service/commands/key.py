"""`bathyscope key`: make, list and revoke access keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from service.files.access_keys import AccessKeys

__all__ = ["application"]

application = typer.Typer(help="Make, list and revoke access keys of a data directory.", no_args_is_help=True)

Config = Annotated[Path | None, typer.Option("--config", envvar="BATHYSCOPE_CONFIG", help="Settings (TOML).")]
Data = Annotated[str | None, typer.Option("--data", metavar="<path>", help="Data directory.")]
# The same as `service.files.access_keys.Role`, which would load pydantic before the command line is shown.
Role = Literal["view", "operate", "administer"]


@application.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Of the owner or the use, for the list and the audit.")],
    role: Annotated[
        Role, typer.Option("--role", help="view: read. operate: also move, start and stop. administer: also delete.")
    ],
    config: Config = None,
    data: Data = None,
) -> None:
    """Make a key and print it; it is not kept and cannot be shown again."""
    from service.commands.console import note, result

    result(_keys(config, data).add(name, role))
    note(f"This is the key of {name} ({role}). Only its hash is kept: store it now.")


@application.command("list")
def show(config: Config = None, data: Data = None) -> None:
    """List names, roles and dates of all keys."""
    from service.commands.console import note, result

    records = _keys(config, data).records()
    for record in records:
        result(f"{record.name}\t{record.role}\t{record.made_at}")
    if not records:
        note("There are no keys; make one with: bathyscope key add NAME --role view.")


@application.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="Name of the key, as in the list.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Revoke a key; a running service refuses it within a second and closes its WebSockets."""
    from service.commands.console import note

    _keys(config, data).revoke(name)
    note(f"The key of {name} is revoked.")


def _keys(config: Path | None, data: str | None) -> AccessKeys:
    from service.files.access_keys import AccessKeys
    from service.settings import load_settings

    # Keys are made before a service may listen elsewhere than on loopback.
    return AccessKeys(load_settings(config, {"data_dir": data, "host": "127.0.0.1"}).data_dir)
