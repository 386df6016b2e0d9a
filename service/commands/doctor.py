"""`bathyscope doctor`: check an installation, and say what is wrong and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.doctor.findings import Finding

__all__ = ["run"]


def run(
    config: Annotated[
        Path | None, typer.Option("--config", envvar="BATHYSCOPE_CONFIG", help="Settings (TOML).")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="<path>", help="Data directory.")] = None,
    microscope: Annotated[
        bool, typer.Option("--microscope/--no-microscope", help="Open the microscope, which initializes its devices.")
    ] = True,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the findings to this file.")
    ] = None,
) -> None:
    """Check devices, camera, stage, disk, network, ports, database, model, clock; status 1 when something is wrong."""
    from dataclasses import asdict

    from models.errors import DataError
    from service.commands.console import result
    from service.doctor.findings import error
    from service.files.outputs import check_json, write_json
    from service.process.machine import machine

    check_json(json_file)
    findings: list[Finding] = []

    def show(finding: Finding) -> None:
        findings.append(finding)
        result(f"{finding.state:<8}{finding.check}: {finding.message}")
        if finding.remedy is not None:
            result(f"{'':<8}-> {finding.remedy}")

    from service.settings import load_settings

    try:
        settings = load_settings(config, {"data_dir": data})
    except DataError as fault:
        show(error("settings", fault.problem, fault.remedy))
    else:
        from service.doctor.examination import examine

        for finding in examine(settings, with_microscope=microscope):
            show(finding)
    counts = {state: sum(finding.state == state for finding in findings) for state in ("ok", "warning", "error")}
    result(f"{counts['ok']} ok, {counts['warning']} warnings, {counts['error']} errors.")
    if json_file is not None:
        values = {"ok": not counts["error"], "counts": counts, "findings": [asdict(each) for each in findings]}
        write_json(json_file, {**values, "machine": machine()})
    if counts["error"]:
        raise typer.Exit(1)
