"""``bathyscope track``: compute a table of tracks from a table of localizations."""

from __future__ import annotations

from pathlib import Path

import typer

from service.commands.checks import frame_rate, table_suffix

__all__ = ["run"]

_RATE_TOLERANCE = 0.01
"""The rate of a camera differs from its nominal rate by less than one per cent."""


def run(
    localizations: Path = typer.Argument(help="Table of localizations, .csv or .parquet."),
    fps: float = typer.Option(..., callback=frame_rate, help="Frames per second of the movie."),
    out: Path = typer.Option(..., callback=table_suffix, help="Table of tracks to write, .csv or .parquet."),
) -> None:
    """Join localizations to tracks, with the tracker that works live."""
    import numpy as np

    from models.errors import DataError
    from models.table_files import is_table, read_table, stated_rate, write_table
    from models.tables import Localizations, Tracks
    from models.tracking import track_table
    from service.commands.console import note
    from service.files.outputs import complete_output

    with complete_output(out, lambda path: is_table(path, Tracks)) as aside:
        found = read_table(localizations, Localizations, note)
        rate = stated_rate(localizations)
        if rate is not None and abs(rate / fps - 1) > _RATE_TOLERANCE:
            raise DataError(
                f"--fps is {fps:g}, but the column t_s of {localizations} gives {rate:.6g} frames per second.",
                "Give the rate of the movie, or leave the column out.",
            )
        tracks = track_table(found, fps)
        write_table(aside, tracks)
    note(f"{out}: {len(np.unique(tracks.track_id))} tracks with {len(tracks)} points.")
