"""Tracks as GEFF, the Graph Exchange File Format: a Zarr group with nodes, edges and metadata.

A node is a track point and an edge joins a point to the next one of its
track. The layout is that of version 1.3 of the specification
(https://liveimagetrackingtools.org/geff), written with Zarr itself: the package
`geff` needs a version of numcodecs that compresses recordings badly.
Zarr format 2 is chosen because it is the default of that package and more
programs read it.

The axes are t, z, y, x in seconds and micrometres. Standard deviations,
velocities, the probability of existence and `observed` (0 while a track
coasts) are properties of the nodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from models.tables import Tracks
from service.export.blocks import located, of_equal_length
from service.export.measured import COLUMNS, FIGURES, Measured
from service.export.origin import Origin

__all__ = ["is_ours", "write"]

_VERSION = "1.3"
_ROWS = 65_536
"""Rows of a chunk: half a megabyte of float64."""

_AXES = {"t": ("t_s", "time", "second"), "z": ("z_um", "space", "micrometer")}
_AXES |= {axis: (f"{axis}_um", "space", "micrometer") for axis in "yx"}
"""Name of an axis to column, type and unit."""

_PROPERTIES = {
    "track_id": ("track_id", None),
    "frame": ("frame", "frame"),
    **{f"v{axis}": (f"v{axis}_um_s", "micrometer/second") for axis in "xyz"},
    **{f"sigma_{axis}": (f"sigma_{axis}_um", "micrometer") for axis in "xyz"},
    "observed": ("observed", None),
    "probability": ("probability", None),
}
"""Name of a further property of nodes to column and unit."""

_DISPLAY = {"horizontal": "x", "vertical": "y", "depth": "z", "time": "t"}
_COLUMNS = {name: column for name, (column, *_) in (_AXES | _PROPERTIES).items()}
_DESCRIPTIONS = {
    "observed": "1 where the track was seen in the frame, 0 while it coasts",
    "probability": "probability that the track exists",
}


class _Property:
    """One property of the nodes: its values, and which of them are missing once any is."""

    def __init__(self, properties: zarr.Group, name: str, dtype: np.dtype[Any]) -> None:
        self._group = properties.create_group(name)
        self._values = _array(self._group, "values", (0,), dtype)
        self._missing: zarr.Array[Any] | None = None

    def append(self, values: NDArray[Any]) -> None:
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
        if self._missing is None and missing.any():
            # The rows before this one have all their values, as an array that is not written yet says: False.
            self._missing = _array(self._group, "missing", self._values.shape, np.dtype(bool))
        if self._missing is not None:
            self._missing.append(missing)
        self._values.append(values)


def write(destination: Path, blocks: Iterable[Tracks], origin: Origin, measured: Measured | None = None) -> None:
    """Write tracks as a GEFF group.

    The rows are written chunk by chunk; points without a position are left out.

    Parameters
    ----------
    destination : Path
        The folder of the group.
    blocks : iterable of Tracks
        By track, then by frame.
    origin : Origin
        Is written into the field `extra` of the metadata.
    measured : Measured, optional
        Figures of the tracks, as properties of their nodes: the format has no properties of tracks.
    """
    group = zarr.create_group(destination, zarr_format=2)
    nodes, edges = group.create_group("nodes"), group.create_group("edges")
    ids, pairs = _array(nodes, "ids", (0,), np.dtype(np.uint64)), _array(edges, "ids", (0, 2), np.dtype(np.uint64))
    edges.create_group("props")
    properties = nodes.create_group("props")
    empty = Tracks.empty().columns()
    columns = {name: _Property(properties, name, empty[column].dtype) for name, column in _COLUMNS.items()}
    figures = {} if measured is None else {name: _Property(properties, name, np.dtype(float)) for name in COLUMNS}

    count, last = 0, None
    low, high = np.full(len(_AXES), np.inf), np.full(len(_AXES), -np.inf)
    for block in of_equal_length(located(blocks), _ROWS):
        rows = np.arange(count, count + len(block), dtype=np.uint64)
        ids.append(rows)
        for name, column in columns.items():
            column.append(getattr(block, _COLUMNS[name]))
        for name, values in () if measured is None else measured.of_points(block).items():
            figures[name].append(values)
        follows = np.diff(block.track_id, prepend=block.track_id[0] - 1 if last is None else last) == 0
        if follows.any():
            pairs.append(np.column_stack([rows[follows] - 1, rows[follows]]))
        places = np.stack([getattr(block, column) for column, *_ in _AXES.values()])
        low, high = np.minimum(low, places.min(axis=1)), np.maximum(high, places.max(axis=1))
        count, last = count + len(block), block.track_id[-1]
    # Last, so that a group that was not completed is not taken for one.
    group.attrs["geff"] = _metadata(origin, low, high, figures)


def is_ours(path: Path) -> bool:
    """Whether `path` is a GEFF group that this module wrote."""
    try:
        written = json.loads((path / ".zattrs").read_bytes())
        return "software" in written["geff"]["extra"]["bathyscope"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _array(group: zarr.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> zarr.Array[Any]:
    return group.create_array(name, shape=shape, dtype=dtype, chunks=(_ROWS, *shape[1:]))


def _metadata(
    origin: Origin, low: NDArray[np.float64], high: NDArray[np.float64], figures: Iterable[str]
) -> dict[str, Any]:
    axes = [
        {"name": name, "type": kind, "unit": unit, **({"min": least, "max": most} if least <= most else {})}
        for (name, (_, kind, unit)), least, most in zip(_AXES.items(), low.tolist(), high.tolist(), strict=True)
    ]
    units = {name: unit for name, (*_, unit) in (_AXES | _PROPERTIES).items()}
    empty = Tracks.empty().columns()
    properties = {
        name: {
            "identifier": name,
            "dtype": empty[column].dtype.name,
            "varlength": False,
            "unit": units[name],
            "description": _DESCRIPTIONS.get(name),
        }
        for name, column in _COLUMNS.items()
    }
    properties |= {
        name: {
            "identifier": name,
            "dtype": "float64",
            "varlength": False,
            "unit": FIGURES[COLUMNS[name]],
            "description": "of the whole track",
        }
        for name in figures
    }
    return {
        "geff_version": _VERSION,
        "directed": True,
        "axes": axes,
        "node_props_metadata": properties,
        "edge_props_metadata": {},
        # Tracks neither split nor merge, so that a track is both.
        "track_node_props": {"tracklet": "track_id", "lineage": "track_id"},
        "display_hints": {
            "display_horizontal": "x",
            "display_vertical": "y",
            "display_depth": "z",
            "display_time": "t",
        },
        "extra": {"bathyscope": origin.facts()},
    }
