"""A column of a table as it was read: numbers, and which of them were missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike, NDArray

from models.memory import require_memory

__all__ = ["Column", "allow_memory"]

# Bytes of a cell while a table is read and used: as Arrow or as parts, as one array, once more while rows are
# compared, and twice for what is done with it.
_BYTES_PER_CELL = 5 * 8


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
        When reading `rows` rows of `columns` columns needs more than can be spared.
    """
    require_memory(
        rows * columns * _BYTES_PER_CELL,
        f"{path} has about {rows} rows; reading {columns} columns of them",
        "Split the table by frames, or use a machine with more memory.",
    )
