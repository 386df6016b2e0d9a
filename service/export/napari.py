"""Tracks for napari: a CSV table whose first five columns are the array of a napari Tracks layer.

A row of napari's array is (track id, t, z, y, x). The time axis of napari
counts frames, so that tracks follow the slider of a movie; z, y and x are in
µm, so that they match an image layer whose scale is its pixel size in µm. The
further columns are features of the points, by which a layer can be coloured.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from models.tables import Tracks
from service.export.blocks import located
from service.export.measured import COLUMNS, Measured
from service.export.origin import Origin

__all__ = ["is_ours", "write"]

_AXES = {"track_id": "track_id", "t": "frame", "z": "z_um", "y": "y_um", "x": "x_um"}
"""Column of napari's array to column of a table of tracks."""

_FEATURES = tuple(name for name in Tracks.names() if name not in _AXES.values())


def write(destination: Path, blocks: Iterable[Tracks], _origin: Origin, measured: Measured | None = None) -> None:
    """Write tracks as a CSV table for napari.

    Points without a position are left out, because napari takes none. Features that are not known are empty cells.

    Parameters
    ----------
    destination : Path
    blocks : iterable of Tracks
        By track, then by frame, which is the order that napari demands.
    measured : Measured, optional
        Figures of the tracks, as further features of their points.
    """
    names = {**_AXES, **{name: name for name in _FEATURES}}
    empty = Tracks.empty().columns()
    schema = pa.schema([(head, pa.from_numpy_dtype(empty[name].dtype)) for head, name in names.items()])
    if measured is not None:
        schema = pa.unify_schemas([schema, pa.schema([(name, pa.float64()) for name in COLUMNS])])
    options = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none", batch_size=65_536)
    with destination.open("wb") as file, pyarrow.csv.CSVWriter(file, schema, write_options=options) as writer:
        for block in located(blocks):
            columns = block.columns()
            cells = [pa.array(columns[name], from_pandas=True) for name in names.values()]
            figures = {} if measured is None else measured.of_points(block)
            cells += [pa.array(column, from_pandas=True) for column in figures.values()]
            writer.write_table(pa.Table.from_arrays(cells, schema=schema))


def is_ours(path: Path) -> bool:
    """Whether `path` is such a table."""
    try:
        with path.open("rb") as file:
            return file.read(64).startswith(",".join([*_AXES, _FEATURES[0]]).encode())
    except OSError:
        return False
