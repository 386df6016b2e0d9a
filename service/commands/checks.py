"""What several commands check of their options; what is wrong is wrong usage, status 2."""

from __future__ import annotations

from pathlib import Path

import typer

__all__ = ["HIGHEST_FPS", "LOWEST_FPS", "frame_rate", "table_suffix"]

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


def table_suffix(path: Path) -> Path:
    """A name that says in which format a table is written."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise typer.BadParameter(f"{str(path)!r} must end in .csv or .parquet.")
    return path
