"""``bathyscope track``: a table of localizations becomes a table of tracks."""

from __future__ import annotations

from pathlib import Path

import typer

__all__ = ["run"]


def _positive(value: float) -> float:
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value} is not a frame rate; it must be positive and finite.")
    return value


def _table_suffix(path: Path) -> Path:
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise typer.BadParameter(f"{path} must end in .csv or .parquet.")
    return path


def run(
    localizations: Path = typer.Argument(help="Table of localizations, .csv or .parquet."),
    fps: float = typer.Option(..., callback=_positive, help="Frames per second of the movie."),
    out: Path = typer.Option(..., callback=_table_suffix, help="Table of tracks to write, .csv or .parquet."),
) -> None:
    """Join localizations to tracks, exactly as it happens live."""
    import numpy as np

    from models.table_files import is_table, read_table, write_table
    from models.tables import Localizations, Tracks
    from models.tracking import track_table
    from service.console import note
    from service.outputs import complete_output

    with complete_output(out, lambda path: is_table(path, Tracks)) as aside:
        tracks = track_table(read_table(localizations, Localizations), fps)
        write_table(aside, tracks)
    note(f"{out}: {len(np.unique(tracks.track_id))} tracks with {len(tracks)} points.")
