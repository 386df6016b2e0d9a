"""`bathyscope bench report`: the performance page from the kept results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["run"]


def run(
    docs: Annotated[
        Path, typer.Option("--docs", metavar="DIR", help="Folder of the documentation, in a checkout.")
    ] = Path("docs"),
) -> None:
    """Write docs/performance.md from the results in docs/performance."""
    from evaluation.report.performance import PAGE, performance_page
    from service.commands.console import note
    from service.files.outputs import complete_output

    page, text = docs / PAGE, performance_page(docs)
    with complete_output(page, Path.is_file) as aside:
        aside.write_text(text, encoding="utf-8")
    note(f"{page} is written.")
