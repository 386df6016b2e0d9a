"""Checks of options that several commands have. They run before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

__all__ = ["HIGHEST_FPS", "LONGEST_S", "LOWEST_FPS", "frame_rate", "plausible", "table_suffix"]

LONGEST_S = 30 * 86_400.0
"""Longest measurement, one month. A larger value is a typing error: no soak test takes as long."""

LOWEST_FPS = 1e-6
"""One frame in twelve days. A smaller value is a typing error."""

HIGHEST_FPS = 1e6
"""The fastest cameras take a million frames per second."""


def frame_rate(value: float | None) -> float | None:
    """Check a frame rate, frames per second; None where it is not given."""
    if value is not None and not LOWEST_FPS <= value <= HIGHEST_FPS:
        raise typer.BadParameter(
            f"{value} is not a frame rate; give the frames per second, from {LOWEST_FPS:g} to {HIGHEST_FPS:g}."
        )
    return value


def plausible(quantity: str) -> Callable[[Any], Any]:
    """A check of one or several values against the range of a quantity in `models.quantities`.

    A value outside of the range is refused with `DataError`, as in the models: exit status 1.
    """

    def check(value: Any) -> Any:
        from models import quantities

        for each in value if isinstance(value, tuple | list) else (value,):
            if each is not None:
                getattr(quantities, quantity).check(each)
        return value

    return check


def table_suffix(path: Path | None) -> Path | None:
    """Check that the suffix names a table format; None where no table is asked for."""
    if path is not None and path.suffix.lower() not in (".csv", ".parquet"):
        raise typer.BadParameter(f"{str(path)!r} must end in .csv or .parquet.")
    return path
