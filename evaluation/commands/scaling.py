"""`bathyscope bench scaling`: what a number of scopes needs, and which part saturates first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["run"]

_PNG = b"\x89PNG\r\n\x1a\n"
"""First bytes of a picture, which may be replaced; another file may not."""


def run(
    scopes: Annotated[
        list[int],
        typer.Option(
            "--scopes",
            min=1,
            max=1_000_000,
            default_factory=lambda: [10, 100, 10_000],
            show_default="10, 100 and 10000",
            help="Numbers of scopes; repeatable.",
        ),
    ],
    docs: Annotated[
        Path, typer.Option("--docs", metavar="DIR", help="Folder of the documentation, in a checkout.")
    ] = Path("docs"),
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Draw it as a picture (PNG).")] = None,
) -> None:
    """What scopes need by the measured costs: units of each part, the part that saturates first, and its price."""
    from evaluation.scaling.costs import measured_costs
    from evaluation.scaling.drawing import draw_scaling
    from evaluation.scaling.page import plan_text
    from evaluation.scaling.plan import Site
    from service.files.outputs import check_destination, complete_output

    if out is not None:
        check_destination(out, _is_png)
    costs = measured_costs(docs)
    typer.echo(plan_text(costs, Site(), scopes))
    if out is not None:
        with complete_output(out, _is_png) as aside:
            draw_scaling(costs, Site(), aside)


def _is_png(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_PNG)) == _PNG
