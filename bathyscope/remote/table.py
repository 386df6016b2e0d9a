"""Columns of numbers, as the service returns tracks and localizations."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bathyscope.remote.problems import MissingPackage

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = ["Table"]


class Table(Mapping[str, NDArray[Any]]):
    """Named columns of equal length; a mapping of name to ndarray, shape (N,).

    Parameters
    ----------
    columns : mapping of str to ndarray, shape (N,)
    revision : int or None
        Revision of the tracks; None where there is none.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]], revision: int | None = None) -> None:
        self._columns = dict(columns)
        self.revision = revision

    @classmethod
    def from_parquet(cls, content: bytes, revision: int | None = None) -> Table:
        """Read a Parquet file; missing numbers become NaN."""
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(io.BytesIO(content))
        return cls({name: table[name].to_numpy() for name in table.column_names}, revision)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """Number of columns, as of every mapping; `rows` is the number of rows."""
        return len(self._columns)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self._columns.values()), ()))

    def __repr__(self) -> str:
        revision = "" if self.revision is None else f", revision {self.revision}"
        return f"Table of {self.rows} rows{revision}: {', '.join(self._columns)}"

    def select(self, mask: NDArray[np.bool_]) -> Table:
        """The rows at which `mask`, shape (N,), is true."""
        return Table({name: column[mask] for name, column in self._columns.items()}, self.revision)

    def to_pandas(self) -> pandas.DataFrame:
        """As a data frame of pandas.

        Raises
        ------
        MissingPackage
            When pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise _not_installed("pandas") from error
        return pandas.DataFrame(self._columns)

    def to_polars(self) -> polars.DataFrame:
        """As a data frame of polars.

        Raises
        ------
        MissingPackage
            When polars is not installed.
        """
        try:
            import polars
        except ImportError as error:
            raise _not_installed("polars") from error
        return polars.DataFrame(self._columns)


def _not_installed(package: str) -> MissingPackage:
    return MissingPackage(
        f"The package {package} is not installed, so the table cannot become one of its data frames.",
        f"pip install {package}, or use the columns as they are: table['z_um'] is an array.",
    )
