"""`bathyscope relay`: show the live views of several scopes, without a microscope."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["run"]


def run(
    nats: Annotated[
        str | None, typer.Option(metavar="URL", help="NATS server: nats://HOST:4222. Default: setting relay.nats.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="BATHYSCOPE_CONFIG", help="Settings (TOML).")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="<path>", help="Folder of the access keys.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen at; 0 takes a free one.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen at.")] = None,
) -> None:
    """Give the live views of all scopes of a NATS server to many viewers."""
    import threading

    from models.errors import DataError
    from service.api.server import serve_app
    from service.commands.waiting import web_address
    from service.process.listener import listen
    from service.process.logs import announce, configure_logs
    from service.process.signals import handle_ending_signals
    from service.relay.app import create_relay
    from service.settings import load_settings

    settings = load_settings(config, {"data_dir": data, "port": port, "host": host, "relay": {"nats": nats}})
    if settings.relay.nats is None:
        raise DataError("There is no address of a NATS server.", "Give --nats, or the setting relay.nats.")
    configure_logs(settings.log_level)
    app, stop = create_relay(settings), threading.Event()

    def started(at: int) -> None:
        address = web_address(settings.host, at, settings.scheme)
        announce("listening", f"The relay listens at {address}, and hears {settings.relay.nats}")

    with listen(settings.host, settings.port) as listener:
        handle_ending_signals(lambda _number, _frame: stop.set())
        serve_app(app, settings, listener=listener, stop=stop, started=started)
