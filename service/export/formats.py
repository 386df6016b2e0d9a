"""The formats in which tracks are exported: name, suffix, and the module that writes it.

A format is a module of this package with two functions, `write(destination,
blocks, origin, measured)` and `is_ours(path)`, and one line here. Modules are imported
when they are used, because they need large libraries.
"""

from __future__ import annotations

import importlib
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from models.tables import Tracks
    from service.export.measured import Measured
    from service.export.origin import Origin

__all__ = ["FORMATS", "ExportFormat", "FormatName"]

FormatName = Literal["csv", "parquet", "geff", "trackmate", "napari"]


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """One format.

    Attributes
    ----------
    name : for commands and requests
    suffixes : that a file or folder of this format may have; the first is the usual one
    media_type : of the file that is sent over HTTP
    module : name of the module in `service.export`
    is_folder : whether the output is a folder, which is sent as a ZIP file
    """

    name: FormatName
    suffixes: tuple[str, ...]
    media_type: str
    module: str
    is_folder: bool = False

    def write(
        self, destination: Path, blocks: Iterable[Tracks], origin: Origin, measured: Measured | None = None
    ) -> None:
        """Write tracks, which come by track and then by frame, to `destination`; with their figures when given."""
        self._load().write(destination, blocks, origin, measured)

    def is_ours(self, path: Path) -> bool:
        """Whether `path` is an output of this format, which may be replaced."""
        return bool(self._load().is_ours(path))

    def write_file(
        self,
        folder: Path,
        stem: str,
        blocks: Iterable[Tracks],
        origin: Origin,
        measured: Measured | None = None,
    ) -> Path:
        """Write tracks as one file in `folder`, ``stem`` with the usual suffix; a folder is zipped."""
        written = folder / f"{stem}{self.suffixes[0]}"
        self.write(written, blocks, origin, measured)
        if not self.is_folder:
            return written
        packed = folder / f"{written.name}.zip"
        # Without compression: the chunks are compressed already.
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(written.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder).as_posix())
        shutil.rmtree(written)
        return packed

    def _load(self) -> Any:
        return importlib.import_module(f"service.export.{self.module}")


FORMATS: dict[str, ExportFormat] = {
    found.name: found
    for found in (
        ExportFormat("csv", (".csv",), "text/csv", "table"),
        ExportFormat("parquet", (".parquet",), "application/vnd.apache.parquet", "table"),
        ExportFormat("geff", (".geff", ".zarr"), "application/zip", "geff", is_folder=True),
        ExportFormat("trackmate", (".xml",), "application/xml", "trackmate"),
        ExportFormat("napari", (".csv",), "text/csv", "napari"),
    )
}
"""Name to format."""
