"""The calibrations and models of one data directory, and which model is active.

Calibrations and models are folders. A job makes them, or people copy them
there by hand. The id in the description file identifies them. The list of
models also has the shipped models and the one that the settings name.
Descriptions are read as plain JSON, so that the HTTP process needs neither
torch nor the optics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.weights import reference_model
from service.files.catalog import Catalog, creation_date, display_name, required_description
from service.files.descriptions import FolderUnreadable, entries_of, parse_description, read_description
from service.files.outputs import write_json
from service.store.errors import UnknownItem

__all__ = ["CalibrationItem", "Library", "ModelItem"]

Source = Literal["library", "settings", "shipped"]

_SHIPPED_SIZES = ("live", "full")
_ACTIVE = "active.json"


@dataclass(frozen=True, slots=True)
class CalibrationItem:
    """A calibration in a list.

    Attributes
    ----------
    id, name : for the service and for people
    created_at : when it was written, UTC
    z_range_um : depths that it covers, µm from focus
    pixel_size_um : camera pixel at the sample, µm
    focus_um : focus in the coordinates of the sweep, µm
    axial_scale, sign : depth per step of the sweep, and its direction; see `models.calibration.calibration`
    beads_used, beads_found : how many beads it was made from; None when the file does not say
    notes : remarks on its quality
    """

    id: str
    name: str
    created_at: datetime
    z_range_um: tuple[float, float]
    pixel_size_um: float
    focus_um: float
    axial_scale: float
    sign: int
    beads_used: int | None
    beads_found: int | None
    notes: list[str]


@dataclass(frozen=True, slots=True)
class ModelItem:
    """A model in a list.

    Attributes
    ----------
    id, name : for the service and for people
    created_at : when it was written, UTC
    source : in this data directory, named by the settings, or shipped
    architecture, size : of its network
    calibration_id : the calibration that it was trained for
    z_range_um : depths that it covers, µm from focus
    pixel_size_um : camera pixel at the sample, µm
    bit_depth : bits of a count of its camera
    minutes : how long it was trained
    scores : on validation frames
    """

    id: str
    name: str
    created_at: datetime
    source: Source
    architecture: str
    size: str | None
    calibration_id: str
    z_range_um: tuple[float, float]
    pixel_size_um: float
    bit_depth: int
    minutes: float | None
    scores: dict[str, Any]


Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _CalibrationReport(BaseModel):
    beads_used: int | None = None
    beads_found: int | None = None
    notes: list[str] = []


class _CalibrationFile(BaseModel):
    """The fields of calibration.json that a list shows."""

    model_config = ConfigDict(strict=True)

    kind: Literal["bathyscope calibration"]
    id: Id
    z_range_um: Annotated[list[Finite], Field(min_length=2, max_length=2)]
    pixel_size_um: Finite
    focus_um: Finite
    axial_scale: Finite
    sign: Literal[-1, 1]
    report: _CalibrationReport


class _ModelSettings(BaseModel):
    size: str | None = None


class _ModelTraining(BaseModel):
    settings: _ModelSettings = _ModelSettings()
    minutes: Finite | None = None


class _ModelCamera(BaseModel):
    bit_depth: Annotated[int, Field(ge=1, le=16)]


class _ModelFile(BaseModel):
    """The fields of model.json that a list shows."""

    model_config = ConfigDict(strict=True)

    kind: Literal["bathyscope-model"]
    id: Id
    architecture: str
    calibration_id: str
    z_range_um: Annotated[list[Finite], Field(min_length=2, max_length=2)]
    pixel_size_um: Finite
    camera: _ModelCamera
    training: _ModelTraining
    scores: dict[str, Any]


class Library:
    """Calibrations and models by their ids.

    Parameters
    ----------
    data_dir : Path
    model : Path or None
        The model that the settings name.

    Attributes
    ----------
    calibrations : Catalog of CalibrationItem
        Those of the data directory.
    models : Catalog of ModelItem
        Those of the data directory, the one of the settings, and the shipped ones.
    """

    def __init__(self, data_dir: Path, model: Path | None = None) -> None:
        self._calibrations_folder = data_dir / "calibrations"
        self._models_folder = data_dir / "models"
        self._model_of_settings = model
        self.calibrations = Catalog("calibrations", "calibration.json", self._calibration_readers)
        self.models = Catalog("models", "model.json", self._model_readers)

    def report(self, calibration_id: str) -> Path:
        """Path of the HTML report of a calibration.

        Raises
        ------
        UnknownItem
            When there is no calibration of this id, or it has no report.
        FolderUnreadable
            When a folder has this name but cannot be read.
        """
        page = self.calibrations.folder(calibration_id) / "report.html"
        if not page.is_file():
            raise UnknownItem(f"Calibration {calibration_id} has no report.", "Calibrate again to get one.")
        return page

    def activate(self, model_id: str) -> None:
        """Write down which model is active. This holds until another is activated or the settings name another.

        Raises
        ------
        DataError
            When it cannot be written.
        """
        write_json(self._models_folder / _ACTIVE, {"id": model_id, "settings": self._named_by_settings})

    def active_folder(self) -> Path | None:
        """Folder of the active model; None when none was activated, or the settings have changed since.

        Raises
        ------
        UnknownItem
            When the folder was removed.
        FolderUnreadable
            When it cannot be read.
        """
        active = self._active_record()
        if not isinstance(active.get("id"), str) or active.get("settings") != self._named_by_settings:
            return None
        return self.models.folder(active["id"])

    def active_ids(self) -> set[str]:
        """Id of the model that was made active last, if any."""
        active = self._active_record().get("id")
        return {active} if isinstance(active, str) else set()

    def _active_record(self) -> dict[str, Any]:
        try:
            return read_description(self._models_folder / _ACTIVE)
        except FileNotFoundError:
            return {}
        except FolderUnreadable as error:
            raise FolderUnreadable(error.problem, "Make the model active again.") from error

    @property
    def _named_by_settings(self) -> str | None:
        return None if self._model_of_settings is None else str(self._model_of_settings)

    def _calibration_readers(self) -> Iterator[tuple[Path, Callable[[Path], CalibrationItem]]]:
        for folder in entries_of(self._calibrations_folder):
            yield folder, _calibration_item

    def _model_readers(self) -> Iterator[tuple[Path, Callable[[Path], ModelItem]]]:
        for folder in entries_of(self._models_folder):
            if folder.name != _ACTIVE:
                yield folder, partial(_model_item, source="library")
        if self._model_of_settings is not None:
            yield self._model_of_settings, partial(_model_item, source="settings")
        for size in _SHIPPED_SIZES:
            yield reference_model(size), partial(_model_item, source="shipped")


def _calibration_item(folder: Path) -> CalibrationItem:
    file = parse_description(
        folder, "calibration.json", required_description(folder, "calibration.json"), _CalibrationFile
    )
    return CalibrationItem(
        id=file.id,
        name=display_name(folder),
        created_at=creation_date(folder / "calibration.json"),
        z_range_um=(file.z_range_um[0], file.z_range_um[1]),
        pixel_size_um=file.pixel_size_um,
        focus_um=file.focus_um,
        axial_scale=file.axial_scale,
        sign=file.sign,
        beads_used=file.report.beads_used,
        beads_found=file.report.beads_found,
        notes=file.report.notes,
    )


def _model_item(folder: Path, source: Source) -> ModelItem:
    file = parse_description(folder, "model.json", required_description(folder, "model.json"), _ModelFile)
    return ModelItem(
        id=file.id,
        name=display_name(folder),
        created_at=creation_date(folder / "model.json"),
        source=source,
        architecture=file.architecture,
        size=file.training.settings.size,
        calibration_id=file.calibration_id,
        z_range_um=(file.z_range_um[0], file.z_range_um[1]),
        pixel_size_um=file.pixel_size_um,
        bit_depth=file.camera.bit_depth,
        minutes=file.training.minutes,
        scores=file.scores,
    )
