"""`bathyscope demo`: the whole instrument with a simulated microscope.

Only the microscope is simulated. Engine, tracker, database, API and page are
those of `serve`. With ``--json`` it also measures latency: a stream client in
another process records when each track message arrives.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from service.commands.checks import LONGEST_S

__all__ = ["run"]


def run(
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.5, max=LONGEST_S, help="Stop after this time, s.")
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Record the frames (OME-Zarr).")] = False,
    port: Annotated[int, typer.Option("--port", help="Port to listen at; 0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="<path>", help="Data directory, kept at the end. Default: a temporary one."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write figures to this file at the end.")
    ] = None,
) -> None:
    """Simulated microscope, shipped model, live tracks at http://127.0.0.1:8000."""
    from service.commands.console import note
    from service.files.outputs import check_json, write_json
    from service.measurement.live import measure
    from service.settings import load_settings

    check_json(json_file)
    folder = tempfile.mkdtemp(prefix="bathyscope-demo-") if data is None else data
    settings = load_settings(
        command_line={
            "data_dir": folder,
            "port": port,
            "host": host,
            "log_level": "warning",
            "engine": {"run_at_start": True, "record": record},
        }
    )
    keep = data is not None or record
    try:
        figures = measure(settings, seconds).figures
        if json_file is not None:
            write_json(json_file, figures)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if figures["recording"] is not None:
        note(f"The recording is {figures['recording']}")
