"""Tables of the performance page from results of `reproduce`: one function for each experiment.

Each function takes the records of a topic, the newest first. Rows of all
records are in one table; of a method that is in several, the newest is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from evaluation.report.listing import Column, joined, listed, shown
from evaluation.report.markdown import Cell, errors, grid, jaccard, light, number, with_error
from evaluation.report.records import Record
from evaluation.scores.scoring import Row

__all__ = [
    "adoption",
    "brownian",
    "by_light",
    "cells",
    "depth",
    "ghosts",
    "isolated",
    "moving",
    "psf",
    "resolution",
    "stacked",
    "trackers",
    "tracking",
    "training_size",
]

Records = Sequence[Record]

_TOLERANCE_UM = 10.0

_COST: tuple[Column, ...] = (
    ("optics", shown("optics")),
    ("calibration, min", shown("calibration_minutes")),
    ("training, min", shown("training_minutes")),
    ("training frames", shown("training_frames")),
)
_DEPTH: tuple[Column, ...] = (
    ("method", lambda row: f"`{row['method']}`"),
    ("recall of at least 0.9, µm", joined("range_from_um", "range_to_um")),
    ("Jaccard", shown("jaccard", 2)),
    ("RMSE lateral / axial, µm", errors),
)


def _rows(records: Records, name: str, **where: Any) -> list[Row]:
    """Rows of a table of `reproduce` that have the values `where`."""
    rows: list[Row] = [row for record in records for row in record.result["tables"].get(name, [])]
    return [row for row in rows if all(row.get(key) == value for key, value in where.items())]


def _titled(title: str, rows: Sequence[Row], across: str, cell: Cell, **options: Any) -> list[str]:
    return [f"{title}:\n\n{grid(rows, across, cell, **options)}"] if rows else []


def by_light(name: str, published: str, across: str) -> Callable[[Records], list[str]]:
    """Jaccard index within 10 µm of a table of conditions, in both forms of light.

    Parameters
    ----------
    name : str
        Table.
    published : str
        Title of the published form.
    across : str
        Key of the conditions, ``snr_db`` or ``points``.
    """

    def draw(records: Records) -> list[str]:
        rows = _rows(records, name, form="published", tolerance_um=_TOLERANCE_UM)
        parts = _titled(published, rows, across, jaccard, limits=True)
        physical = _rows(records, name, form="physical", tolerance_um=_TOLERANCE_UM)
        along, what = ("photons", "photo-electrons per emitter") if across == "snr_db" else (across, "number of points")
        backgrounds = list(dict.fromkeys(row["background_e"] for row in physical))
        pairs: dict[tuple[Any, ...], Row] = {}
        for row in physical:
            for method, key in ((row["method"], "jaccard"), ("ideal detector", "limit_jaccard")):
                pair = pairs.setdefault((method, row[along]), {"of": _code(method), along: row[along]})
                pair.setdefault(row["background_e"], row.get(key))
        # The limit is the last line, as in the published form.
        ordered = sorted(pairs.values(), key=lambda pair: pair["of"] == "ideal detector")

        def cell(row: Row) -> str:
            return ", ".join(number(row.get(background)) for background in backgrounds)

        title = f"sCMOS, {' and '.join(f'{background:g}' for background in backgrounds)} e⁻/px, by {what}"
        return parts + _titled(title, ordered, along, cell, down="of")

    return draw


def _code(method: str) -> str:
    return method if method == "ideal detector" else f"`{method}`"


def isolated(records: Records) -> list[str]:
    """Errors of one emitter over the bound and over sigma, by light and depth."""
    rows = [
        {**row, "of": f"`{row['method']}`, {light(row)}", "depths": f"{row['from_um']:g} to {row['to_um']:g} µm"}
        for row in _rows(records, "isolated")
    ]

    def cell(row: Row) -> str:
        pairs = ((row[f"lateral_over_{by}"], row[f"axial_over_{by}"]) for by in ("bound", "sigma"))
        return "; ".join(" / ".join(map(number, pair)) for pair in pairs)

    title = "Error over the Cramér-Rao bound, lateral / axial; error over sigma, lateral / axial"
    return _titled(title, rows, "depths", cell, down="of")


def ghosts(records: Records) -> list[str]:
    """False localizations for each emitter with negative defocus, by light."""
    rows = [{**row, "light": light(row)} for row in _rows(records, "ghosts", kind="wrong side", whole=True)]

    def cell(row: Row) -> str:
        error = row.get("ghosts_error")
        return number(row["ghosts"], 3) + ("" if error is None else f" ± {error:.3f}")

    return _titled("False localizations per emitter", rows, "light", cell)


def resolution(records: Records) -> list[str]:
    """Smallest resolved lateral and axial distance, by light and depth."""
    pairs: dict[tuple[Any, ...], Row] = {}
    for row in _rows(records, "resolution"):
        place = f"{row['photons']:,.0f} e⁻, {row['depth_um']:g} µm"
        pair = pairs.setdefault((row["method"], place), {"method": row["method"], "place": place})
        pair.setdefault(row["direction"], row["resolved_um"])

    def cell(row: Row) -> str:
        return ", ".join(number(row.get(direction), 1) for direction in ("lateral", "axial"))

    return _titled("Smallest resolved distance, lateral, axial, µm", list(pairs.values()), "place", cell)


def adoption(records: Records) -> list[str]:
    """Jaccard index with other optics, and the time from the sweep to the model."""
    rows = [
        {**row, "of": f"`{row['method']}`, {row['optics']}"} for row in _rows(records, "adoption", tolerance_share=0.1)
    ]
    parts = _titled("Jaccard index by SNR in dB", rows, "snr_db", jaccard, down="of")
    return [*parts, *listed(_rows(records, "adoption-cost"), _COST)]


def stacked(records: Records) -> list[str]:
    """Share of frames with both emitters found, by SNR and distance."""
    rows = [
        {**row, "case": f"{row['snr_db']:g} dB, {row['apart_um']:g} µm"}
        for row in _rows(records, "stacked", tolerance_um=5.0)
    ]
    return _titled(
        "Share of frames with both found within 5 µm, by SNR and axial distance",
        rows,
        "case",
        lambda row: number(row["both_found"]),
    )


def psf(records: Records) -> list[str]:
    """Scores with the measured and the computed PSF."""
    rows = [{**row, "case": f"{row['points']} points"} for row in _rows(records, "psf", tolerance_um=_TOLERANCE_UM)]

    def cell(row: Row) -> str:
        if row["points"] > 1:
            return f"{number(row['jaccard'])}; {number(row['rmse_axial_um'])} µm"
        return (
            f"{number(row['jaccard'])}; {number(row['lateral_over_bound'], 1)} / {number(row['axial_over_bound'], 1)}"
        )

    return _titled("Jaccard index; error over the bound (one point) or axial RMSE", rows, "case", cell)


def cells(records: Records) -> list[str]:
    """Localizations of all methods with and without background removal, and the tracks of the image filter by scene."""
    hidden = [record for record in records if record.result["optics"] == "hidden"]
    parts = _titled(
        "One scene of 15 cells, hidden optics, localizations: Jaccard index within 10 µm",
        _rows(hidden, "cells", tolerance_um=_TOLERANCE_UM),
        "frames_are",
        jaccard,
    )
    for record in records:
        rows = [{**row, "of": _of_cells(row)} for row in _rows([record], "cells-tracks", tolerance_um=_TOLERANCE_UM)]
        optics = record.result["optics"]
        title = f"Image filter, {optics} optics: Jaccard index within 10 µm; lateral / axial RMSE in µm"
        parts += _titled(title, rows, "scene", lambda row: f"{number(row['jaccard'])}; {errors(row)}", down="of")
        flows = [row for row in rows if row["form"] == "tracks"]
        parts += _titled(
            f"Flow from tracks, {optics} optics: mean and peak speed in µm/s, heart rate in Hz (true ones); share of a "
            "passage in one track",
            flows,
            "scene",
            _flow,
            down="of",
        )
    return parts


def _of_cells(row: Row) -> str:
    return row["method"] if row["form"] == "limit" else f"{row['form']}, calibrated with {row['calibrated_with']}"


def _flow(row: Row) -> str:
    figures = ", ".join(
        f"{number(row.get(key), digits)} ({number(row.get(f'true_{key}'), digits)})"
        for key, digits in (("mean_um_s", 0), ("peak_um_s", 0), ("beat_hz", 2))
    )
    return f"{figures}; {number(row.get('passage_share'))}"


def tracking(records: Records) -> list[str]:
    """Jaccard index of localizations and of tracks, by motion."""

    def cell(row: Row) -> str:
        return f"{number(row['localization_jaccard'])} / {number(row['jaccard'])}"

    return _titled("Jaccard index of localizations / of tracks", _rows(records, "tracking"), "motion", cell)


def trackers(records: Records) -> list[str]:
    """HOTA of each tracker by motion, one table for each number of objects and quality of detection."""
    rows = [
        {**row, "of": row["method"] if row["form"] in row["method"] else f"{row['method']}, {row['form']}"}
        for row in _rows(records, "tracking")
    ]
    kinds = dict.fromkeys((row["objects"], row["quality"]) for row in rows)
    dim = [{**row, "case": f"{row['motion']}, {row['snr_db']:g} dB"} for row in _rows(records, "tracking-dim")]
    return _titled("J of dim points in movies, 6 of 60 frames", dim, "case", _with_error, down="form") + [
        part
        for objects, quality in kinds
        for part in _titled(
            f"HOTA, {objects} objects, {quality}",
            [row for row in rows if (row["objects"], row["quality"]) == (objects, quality)],
            "motion",
            lambda row: number(row["hota"]),
            down="of",
        )
    ]


def moving(records: Records) -> list[str]:
    """Jaccard index and axial error of moving emitters, by light, for each motion and number of points; ghosts."""

    def cell(row: Row) -> str:
        return f"{with_error(row['jaccard_10'], row['jaccard_10_error'])} ({number(row['rmse_axial_um'])})"

    parts = []
    for record in records:
        optics, rows = record.result["optics"], _rows([record], "moving")
        for motion, points in dict.fromkeys((row["motion"], row["points"]) for row in rows):
            mine = [row for row in rows if (row["motion"], row["points"]) == (motion, points)]
            title = f"{optics} optics, {motion}, {points} points, by SNR in dB"
            parts += _titled(title, mine, "snr_db", cell, limits=True)
        ghosts = [{**row, "case": f"{row['motion']}, {row['snr_db']:g} dB"} for row in _rows([record], "moving-ghosts")]
        title = f"{optics} optics, false localizations for each emitter at negative defocus"
        parts += _titled(title, ghosts, "case", lambda row: number(row["ghosts"]))
    return parts


def _with_error(row: Row) -> str:
    """Mean Jaccard index over movies, with its standard error."""
    return with_error(row["jaccard"], row["jaccard_standard_error"])


def brownian(records: Records) -> list[str]:
    """Recovered over true diffusion coefficient with its interval, and tracks whose interval holds the true one."""
    rows = [{**row, "case": f"{row['diffusion_um2_s']:g} µm²/s, {row['axis']}"} for row in _rows(records, "brownian")]

    def ratio(row: Row) -> str:
        if row["ratio"] is None or row.get("high_um2_s") is None:
            return number(row["ratio"])
        ends = (number(row[end] / row["diffusion_um2_s"]) for end in ("low_um2_s", "high_um2_s"))
        return f"{number(row['ratio'])} ({' to '.join(ends)})"

    covered = [row for row in rows if row.get("tracks_covered") is not None]
    title = "Recovered over true diffusion coefficient"
    # Results of earlier versions have no intervals.
    title += ", with the 95 % interval" if any("high_um2_s" in row for row in rows) else ""
    return [
        *_titled(title, rows, "case", ratio),
        *_titled(
            "Share of tracks whose 95 % interval holds the true coefficient", covered, "case",
            lambda row: number(row["tracks_covered"]),
        ),
    ]  # fmt: skip


def training_size(records: Records) -> list[str]:
    """Jaccard index over the size of the training, by SNR."""
    rows = [
        {**row, "of": f"`{row['network']}`, {row['samples']:,} samples, {row['minutes']:g} min"}
        for row in _rows(records, "training-size", tolerance_um=_TOLERANCE_UM)
    ]
    return _titled("Jaccard index by SNR in dB", rows, "snr_db", jaccard, down="of")


def depth(records: Records) -> list[str]:
    """Depths with a high recall, and errors."""
    return listed(_rows(records, "depth-range"), _DEPTH)
