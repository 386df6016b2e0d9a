"""``bathyscope evaluate``: score localizations or tracks against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from models.metrics import Region
    from models.tables import Localizations, Tracks, Truth

__all__ = ["run"]


_LABELS = {
    "jaccard": "Jaccard index",
    "chance_jaccard": "of random positions",
    "precision": "Precision",
    "recall": "Recall",
    "tp": "True positives",
    "fp": "False positives",
    "fn": "Missed",
    "rmse_um": "RMSE 3D, µm",
    "rmse_lateral_um": "RMSE lateral, µm",
    "rmse_axial_um": "RMSE axial, µm",
}

_TRACK_LABELS = {
    "alpha": "alpha",
    "beta": "beta",
    "jsc": "JSC of points",
    "jsc_theta": "JSC of tracks",
    "track_rmse_um": "RMSE 3D, µm",
    "idf1": "IDF1",
    "true_tracks": "True tracks",
    "found_tracks": "Found tracks",
    "paired_tracks": "Paired tracks",
}

SMALLEST_TOLERANCE_UM = 1e-3
"""1 nm, smaller than the precision of any localization: nothing would match."""

LARGEST_TOLERANCE_UM = 1000.0
"""Larger than the field of view of any objective that resolves single particles: everything would match."""


def _tolerance(value: float) -> float:
    if not SMALLEST_TOLERANCE_UM <= value <= LARGEST_TOLERANCE_UM:
        raise typer.BadParameter(
            f"{value} is not a tolerance; give µm, from {SMALLEST_TOLERANCE_UM:g} to {LARGEST_TOLERANCE_UM:g}."
        )
    return value


def _increasing(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    from models.quantities import DEPTH_UM

    if bounds is not None and not (all(map(DEPTH_UM.holds, bounds)) and bounds[0] < bounds[1]):
        raise typer.BadParameter(
            f"{bounds[0]} {bounds[1]} is not a range of depths; both must lie within {DEPTH_UM.low:g} to "
            f"{DEPTH_UM.high:g} µm, and the first must be less than the second."
        )
    return bounds


def run(
    predicted: Path = typer.Argument(help="Table of localizations or tracks, .csv or .parquet."),
    truth: Path = typer.Argument(help="Table of the truth, .csv or .parquet."),
    tolerance_um: float = typer.Option(10.0, callback=_tolerance, help="Largest 3D distance of a match, µm."),
    z_range_um: tuple[float, float] = typer.Option(
        None, callback=_increasing, metavar="LO HI", help="Range of depths of the truth, µm. Default: all."
    ),
    json: Path = typer.Option(None, help="Also write the figures to this file."),
) -> None:
    """Score positions against the truth, frame by frame."""
    from models.metrics import Region, chance_jaccard, frames_remark, places_remark, score_table
    from models.table_files import read_table
    from models.tables import Truth
    from models.track_metrics import GATE_UM
    from service.commands.console import note, result
    from service.files.outputs import check_json, write_json

    check_json(json)
    found, expected = _read_predicted(predicted), read_table(truth, Truth, note)
    remarks = [frames_remark(found, expected)]
    region = Region(z_um=z_range_um) if z_range_um else None
    score = score_table(found, expected, tolerance_um, region)
    remarks.append(places_remark(found, expected, score))
    for remark in filter(None, remarks):
        note(remark)
    figures = score.as_dict()
    figures["chance_jaccard"] = chance_jaccard(found, expected, tolerance_um, region)
    of_tracks = _track_scores(found, expected, region)
    if json is not None:
        write_json(json, figures | of_tracks)
    result(f"Matched within {tolerance_um:g} µm in 3D: most pairs, then least total distance.")
    for line in _lines(figures, _LABELS):
        result(line)
    if of_tracks:
        result(f"Tracks, by the particle tracking challenge with a gate of {GATE_UM:g} µm in 3D:")
        for line in _lines(of_tracks, _TRACK_LABELS):
            result(line)


def _read_predicted(path: Path) -> Localizations | Tracks:
    from models.table_files import read_table, table_kind
    from models.tables import Localizations, Tracks
    from service.commands.console import note

    if table_kind(path) is Tracks:
        return read_table(path, Tracks, note)
    return read_table(path, Localizations, note)


def _track_scores(found: Localizations | Tracks, truth: Truth, region: Region | None) -> dict[str, Any]:
    """Scores of tracks, when both tables say which points belong together and all of the truth counts."""
    from models.errors import DataError
    from models.tables import Tracks
    from models.track_metrics import score_tracks
    from service.commands.console import note

    if not isinstance(found, Tracks) or len(truth) == 0 or (truth.track_id < 0).any():
        return {}
    if region is not None:
        note("Tracks are not scored in a range of depths: a part of a track is no track.")
        return {}
    try:
        return score_tracks(found, truth).as_dict()
    except DataError as error:
        note(f"Tracks are not scored. {error}")
        return {}


def _lines(figures: dict[str, Any], labels: dict[str, str]) -> list[str]:
    width = max(map(len, labels.values()))
    lines = []
    for name, label in labels.items():
        value = figures[name]
        text = "undefined" if value is None else f"{value:d}" if isinstance(value, int) else f"{value:.3f}"
        lines.append(f"{label:<{width}}  {text:>10}")
    return lines
