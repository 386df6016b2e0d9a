"""`bathyscope serve`: the service on one data directory, until it is interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["run"]


def run(
    config: Annotated[
        Path | None, typer.Option("--config", envvar="BATHYSCOPE_CONFIG", help="Settings (TOML).")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="<path>", help="Data directory.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen at; 0 takes a free one.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen at.")] = None,
) -> None:
    """Run the instrument: engine, API and page."""
    from service.commands.waiting import Interrupted, interruptible, web_address
    from service.process.logs import announce, configure_logs
    from service.process.supervisor import Supervisor
    from service.settings import load_settings

    settings = load_settings(config, {"data_dir": data, "port": port, "host": host})
    configure_logs(settings.log_level)
    with interruptible() as pause, Supervisor(settings) as supervisor:
        announce(
            "listening",
            f"Bathyscope listens at {web_address(settings.host, supervisor.port, settings.scheme)}, "
            f"data in {settings.data_dir}",
        )
        try:
            pause(None)
        except Interrupted as interrupted:
            announce(
                "stopping",
                f"Stopping, since {interrupted.ending.reason}: the run, the recorder, the database, the API.",
            )
            supervisor.stop(interrupted.ending)
