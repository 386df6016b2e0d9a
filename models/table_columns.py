"""A column of a table as it was read: numbers, and which of them were missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike, NDArray

from models.errors import DataError

__all__ = ["Column", "allow_memory"]

# Bytes of a cell while a table is read: as Arrow or as parts, as one array, and once more while rows are compared.
_BYTES_PER_CELL = 3 * 8
# Of the memory that is free, the share that a table may take: what is done with it needs some too.
_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True, slots=True)
class Column:
    """Numbers of a column.

    Attributes
    ----------
    values : int64 or float64, shape (N,); 0 where missing
    missing : bool, shape (N,)
    """

    values: NDArray[Any]
    missing: NDArray[np.bool_]

    @classmethod
    def of_arrow(cls, cells: pa.ChunkedArray) -> Column:
        """From cells of int64 or float64."""
        return cls(pc.fill_null(cells, 0).to_numpy(), cells.is_null().to_numpy())

    @classmethod
    def joined(cls, parts: Sequence[Column], dtype: DTypeLike) -> Column:
        """All rows of `parts`, in order."""
        return cls(
            np.concatenate([np.zeros(0, dtype), *(part.values for part in parts)]),
            np.concatenate([np.zeros(0, bool), *(part.missing for part in parts)]),
        )


def allow_memory(path: Path, rows: int, columns: int) -> None:
    """Refuse a table that would not fit into the memory, before any of it is read.

    Raises
    ------
    DataError
        When reading `rows` rows of `columns` columns needs more than half of what is free.
    """
    needed, free = rows * columns * _BYTES_PER_CELL, _free_bytes()
    if needed > _SHARE_OF_MEMORY * free:
        raise DataError(
            f"{path} has about {rows} rows; to read {columns} columns of them takes {needed / 1e9:.3g} GB of memory, "
            f"and {_SHARE_OF_MEMORY:.0%} of the {free / 1e9:.3g} GB that are free may be taken.",
            "Split the table by frames, or use a machine with more memory.",
        )


def _free_bytes() -> int:
    """What is free on the machine, or to this process where it is limited, bytes."""
    free = int(psutil.virtual_memory().available)
    if sys.platform != "win32":
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            free = min(free, max(limit - psutil.Process().memory_info().vms, 0))
    return free
