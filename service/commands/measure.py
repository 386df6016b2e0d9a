"""``bathyscope measure``: figures of tracks, with confidence intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from service.commands.checks import plausible, table_suffix

if TYPE_CHECKING:
    from models.measures import Ensemble, Interval

__all__ = ["run"]


def run(
    tracks: Path = typer.Argument(help="Table of tracks, .csv or .parquet."),
    out: Path = typer.Option(..., callback=table_suffix, help="Table to write, a row per track: .csv or .parquet."),
    localizations: Path | None = typer.Option(None, help="Table of localizations that the tracks were made from."),
    exposure_s: float = typer.Option(
        None, callback=plausible("EXPOSURE_S"), help="Exposure whose blur is removed, s. Default: none."
    ),
    json: Path = typer.Option(None, help="Also write the figures of all tracks together to this file."),
) -> None:
    """Measure displacement, speed, straightness, diffusion and anomalous exponent of tracks."""
    from models.measures import measure
    from models.measures.files import is_measures, write_measures
    from models.table_files import read_table
    from models.tables import Localizations, Tracks
    from service.commands.console import note, result
    from service.files.outputs import check_json, complete_output, write_json

    check_json(json)
    with complete_output(out, is_measures) as aside:
        table = read_table(tracks, Tracks, note)
        found = None if localizations is None else read_table(localizations, Localizations, note)
        figures = measure(table, found, exposure_s or 0.0)
        if found is None:
            note(
                "Without --localizations the diffusion is measured on the positions of the table, which are filtered: "
                "give the localizations for the best figures."
            )
        elif len(table) and int(figures.tracks.observed.sum()) == 0:
            note(f"No point of a track has a localization in {localizations}: are both tables of the same movie?")
        write_measures(aside, figures.tracks)
    if json is not None:
        write_json(json, figures.ensemble.as_dict())
    for line in _lines(figures.ensemble):
        result(line)
    note(f"{out}: figures of {len(figures.tracks)} tracks.")


def _lines(ensemble: Ensemble) -> list[str]:
    rows: dict[str, Interval] = {
        "Duration, s": ensemble.duration_s,
        "Displacement, µm": ensemble.displacement_um,
        "Speed, µm/s": ensemble.speed_um_s,
        "Straightness": ensemble.straightness,
        **{f"Mean velocity {axis}, µm/s": each for axis, each in ensemble.velocity_um_s.items()},
        **{f"Diffusion {axis}, µm²/s": each for axis, each in ensemble.diffusion_um2_s.items()},
        "Exponent of the MSD": ensemble.exponent,
    }
    width = max(map(len, rows))
    return [
        f"Means over {ensemble.tracks} tracks; diffusion and exponent of all of them together; 95 % intervals.",
        *(f"{name:<{width}}  {_text(each)}" for name, each in rows.items()),
    ]


def _text(interval: Interval) -> str:
    if interval.value is None:
        return "undefined"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.4g}"
    return f"{interval.value:.4g} ({interval.low:.4g} to {interval.high:.4g})"
