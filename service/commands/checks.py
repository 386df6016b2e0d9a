"""What several commands check of their options, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

__all__ = ["HIGHEST_FPS", "LONGEST_S", "LOWEST_FPS", "frame_rate", "plausible", "table_suffix"]

LONGEST_S = 30 * 86_400.0
"""A measurement of a month, longer than any soak test: more is a slip."""

LOWEST_FPS = 1e-6
"""A frame in twelve days: a smaller rate is a slip."""

HIGHEST_FPS = 1e6
"""The fastest cameras take a million frames a second."""


def frame_rate(value: float) -> float:
    """A rate that a camera can have, frames per second."""
    if not LOWEST_FPS <= value <= HIGHEST_FPS:
        raise typer.BadParameter(
            f"{value} is not a frame rate; give the frames per second, from {LOWEST_FPS:g} to {HIGHEST_FPS:g}."
        )
    return value


def plausible(quantity: str) -> Callable[[Any], Any]:
    """A check that a value, or each of several, is one that the quantity of this name in `models.quantities` can have.

    The check refuses others with `DataError`, as the models do: status 1.
    """

    def check(value: Any) -> Any:
        from models import quantities

        for each in value if isinstance(value, tuple | list) else (value,):
            if each is not None:
                getattr(quantities, quantity).check(each)
        return value

    return check


def table_suffix(path: Path) -> Path:
    """A name that says in which format a table is written."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise typer.BadParameter(f"{str(path)!r} must end in .csv or .parquet.")
    return path
