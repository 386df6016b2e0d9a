"""The calibrations and models of one data directory, and which model is active.

Both are folders, made by a job or copied there by hand, and are known by the
id that is written in them. The shipped models, and the one that the settings
name, are listed with those of the directory. Descriptions are read as plain
JSON: the HTTP process needs neither torch nor the optics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from models.errors import DataError
from models.weights import reference_model
from service.files.descriptions import (
    FolderUnreadable,
    Listing,
    Unreadable,
    entries_of,
    parse_description,
    read_description,
    shown_name,
    unreadable,
)
from service.files.outputs import write_json
from service.store.errors import UnknownItem

__all__ = ["CalibrationItem", "Library", "ModelItem"]

Source = Literal["library", "settings", "shipped"]
Item = TypeVar("Item", "CalibrationItem", "ModelItem")
Kind = TypeVar("Kind")

_SHIPPED_SIZES = ("live", "full")
_ACTIVE = "active.json"


@dataclass(frozen=True, slots=True)
class CalibrationItem:
    """A calibration in a list.

    Attributes
    ----------
    id, name, created_at : what it is called, by the service and by people, and when it was made
    z_range_um : depths that it tells apart, µm from focus
    pixel_size_um, focus_um, axial_scale, sign : see contracts of the tables
    beads_used, beads_found : what it rests on; None where it is not written
    notes : what the person who made it should know
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
    id, name, created_at : what it is called, by the service and by people, and when it was made
    source : in this data directory, named by the settings, or shipped
    architecture, size : its network
    calibration_id : what it was trained for
    z_range_um, pixel_size_um : depths that it answers for, and its camera pixel at the sample, µm
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
    minutes: float | None
    scores: dict[str, Any]


Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _CalibrationReport(BaseModel):
    beads_used: int | None = None
    beads_found: int | None = None
    notes: list[str] = []


class _CalibrationFile(BaseModel):
    """What a list tells of calibration.json."""

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


class _ModelFile(BaseModel):
    """What a list tells of model.json."""

    model_config = ConfigDict(strict=True)

    kind: Literal["bathyscope-model"]
    id: Id
    architecture: str
    calibration_id: str
    z_range_um: Annotated[list[Finite], Field(min_length=2, max_length=2)]
    pixel_size_um: Finite
    training: _ModelTraining
    scores: dict[str, Any]


class Library:
    """Calibrations and models by their ids.

    Parameters
    ----------
    data_dir : Path
    model : Path or None
        The model that the settings name.
    """

    def __init__(self, data_dir: Path, model: Path | None = None) -> None:
        self._calibrations = data_dir / "calibrations"
        self._models = data_dir / "models"
        self._model_of_settings = model

    # ---- calibrations ----

    def calibrations(self, limit: int = 100, cursor: str | None = None) -> Listing[CalibrationItem]:
        """At most `limit` calibrations, newest first, and the folders that cannot be read as one.

        Raises
        ------
        DataError
            When `cursor` is none that a list gave, or the folder of all calibrations cannot be listed.
        """
        found, others = self._all_calibrations()
        return _listing([item for _, item in found.values()], others, limit, cursor)

    def calibration_folder(self, calibration_id: str) -> Path:
        """Where a calibration is.

        Raises
        ------
        UnknownItem
            When there is none of this id.
        FolderUnreadable
            When there is a folder of this name, and it cannot be read.
        """
        found, others = self._all_calibrations()
        return _folder_of(calibration_id, found, others, "calibrations")

    def calibration(self, calibration_id: str) -> dict[str, Any]:
        """Everything that is known of one, as in its calibration.json, and its name.

        Raises
        ------
        UnknownItem
            When there is none of this id.
        FolderUnreadable
            When there is a folder of this name, and it cannot be read.
        """
        folder = self.calibration_folder(calibration_id)
        return {**_whole(folder, "calibration.json"), "name": _name(folder)}

    def report(self, calibration_id: str) -> Path:
        """The page of a calibration.

        Raises
        ------
        UnknownItem
            When there is no calibration of this id, or it has no page.
        FolderUnreadable
            When there is a folder of this name, and it cannot be read.
        """
        page = self.calibration_folder(calibration_id) / "report.html"
        if not page.is_file():
            raise UnknownItem(f"Calibration {calibration_id} has no report.", "Calibrate again to get one.")
        return page

    def _all_calibrations(self) -> tuple[dict[str, tuple[Path, CalibrationItem]], list[Unreadable]]:
        return _sorted_out((folder, _calibration_item, None) for folder in entries_of(self._calibrations))

    # ---- models ----

    def models(self, limit: int = 100, cursor: str | None = None) -> Listing[ModelItem]:
        """At most `limit` models, newest first, and the folders that cannot be read as one.

        Raises
        ------
        DataError
            When `cursor` is none that a list gave, or the folder of all models cannot be listed.
        """
        found, others = self._all_models()
        return _listing([item for _, item in found.values()], others, limit, cursor)

    def model_folder(self, model_id: str) -> Path:
        """Where a model is.

        Raises
        ------
        UnknownItem
            When there is none of this id.
        FolderUnreadable
            When there is a folder of this name, and it cannot be read.
        """
        found, others = self._all_models()
        return _folder_of(model_id, found, others, "models")

    def model(self, model_id: str) -> dict[str, Any]:
        """Everything that is known of one, as in its model.json, and its name.

        Raises
        ------
        UnknownItem
            When there is none of this id.
        FolderUnreadable
            When there is a folder of this name, and it cannot be read.
        """
        folder = self.model_folder(model_id)
        return {**_whole(folder, "model.json"), "name": _name(folder)}

    def _all_models(self) -> tuple[dict[str, tuple[Path, ModelItem]], list[Unreadable]]:
        places: list[tuple[Path, Source]] = [
            (entry, "library") for entry in entries_of(self._models) if entry.name != _ACTIVE
        ]
        if self._model_of_settings is not None:
            places.append((self._model_of_settings, "settings"))
        places += [(reference_model(size), "shipped") for size in _SHIPPED_SIZES]
        return _sorted_out((folder, _model_item, source) for folder, source in places)

    # ---- the active model ----

    def activate(self, model_id: str) -> None:
        """Remember which model is active, until another is, or the settings name another.

        Raises
        ------
        DataError
            When it cannot be written.
        """
        write_json(self._models / _ACTIVE, {"id": model_id, "settings": self._named_by_settings})

    def active_folder(self) -> Path | None:
        """Where the model is that was made active; None when none was, or the settings name another since.

        Raises
        ------
        UnknownItem
            When it is gone.
        FolderUnreadable
            When it cannot be read.
        """
        chosen = self._chosen()
        if not isinstance(chosen.get("id"), str) or chosen.get("settings") != self._named_by_settings:
            return None
        return self.model_folder(chosen["id"])

    def _chosen(self) -> dict[str, Any]:
        try:
            return read_description(self._models / _ACTIVE)
        except FileNotFoundError:
            return {}
        except FolderUnreadable as error:
            raise FolderUnreadable(error.problem, "Make the model active again.") from error

    @property
    def _named_by_settings(self) -> str | None:
        return None if self._model_of_settings is None else str(self._model_of_settings)


def _whole(folder: Path, name: str) -> dict[str, Any]:
    """Everything that the file `name` in `folder` says."""
    try:
        return read_description(folder / name)
    except FileNotFoundError as error:
        raise unreadable(folder, f"{name} is missing") from error


def _name(folder: Path) -> str:
    """What people call it; empty when nothing is written, or it cannot be read."""
    try:
        return str(read_description(folder / "about.json").get("name", ""))
    except (FileNotFoundError, FolderUnreadable):
        return ""


def _calibration_item(folder: Path, _: None) -> CalibrationItem:
    known = parse_description(folder, "calibration.json", _whole(folder, "calibration.json"), _CalibrationFile)
    return CalibrationItem(
        id=known.id,
        name=_name(folder),
        created_at=_date(folder / "calibration.json"),
        z_range_um=(known.z_range_um[0], known.z_range_um[1]),
        pixel_size_um=known.pixel_size_um,
        focus_um=known.focus_um,
        axial_scale=known.axial_scale,
        sign=known.sign,
        beads_used=known.report.beads_used,
        beads_found=known.report.beads_found,
        notes=known.report.notes,
    )


def _model_item(folder: Path, source: Source) -> ModelItem:
    known = parse_description(folder, "model.json", _whole(folder, "model.json"), _ModelFile)
    return ModelItem(
        id=known.id,
        name=_name(folder),
        created_at=_date(folder / "model.json"),
        source=source,
        architecture=known.architecture,
        size=known.training.settings.size,
        calibration_id=known.calibration_id,
        z_range_um=(known.z_range_um[0], known.z_range_um[1]),
        pixel_size_um=known.pixel_size_um,
        minutes=known.training.minutes,
        scores=known.scores,
    )


def _date(path: Path) -> datetime:
    """When a file was written."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, OverflowError, ValueError) as error:
        raise unreadable(path.parent, f"the date of {path.name} cannot be read ({error})") from error


def _sorted_out(
    places: Iterable[tuple[Path, Callable[[Path, Kind], Item], Kind]],
) -> tuple[dict[str, tuple[Path, Item]], list[Unreadable]]:
    """What lies at `places`, by its id, and what cannot be read; of two with the same id the first counts."""
    found: dict[str, tuple[Path, Item]] = {}
    others = []
    for folder, item_of, kind in places:
        try:
            item = item_of(folder, kind)
            other, _ = found.setdefault(item.id, (folder, item))
            if other.parent == folder.parent and other != folder:
                raise unreadable(folder, f"it has the id {item.id!r} as {shown_name(other.name)} has")
        except FolderUnreadable as error:
            others.append(Unreadable(_place(folder), error.problem, error.remedy))
    return found, others


def _place(folder: Path) -> str:
    return f"{shown_name(folder.parent.name)}/{shown_name(folder.name)}"


def _folder_of(wanted: str, found: Mapping[str, tuple[Path, Item]], others: Sequence[Unreadable], kind: str) -> Path:
    if wanted in found:
        return found[wanted][0]
    for other in others:
        if other.folder == f"{kind}/{shown_name(wanted)}":
            raise FolderUnreadable(other.problem, other.remedy)
    raise UnknownItem(
        f"There is no {kind.removesuffix('s')} {wanted[:64]!r}.", f"See /api/v1/{kind} for those that there are."
    )


def _listing(found: list[Item], others: list[Unreadable], limit: int, cursor: str | None) -> Listing[Item]:
    items = sorted(found, key=lambda item: (item.created_at, item.id))[::-1]
    ids = [item.id for item in items]
    if cursor is not None and cursor not in ids:
        raise DataError(
            f"cursor {cursor[:64]!r} is none that a list gave.", "Use the 'next' of the page before, or leave it out."
        )
    begin = 0 if cursor is None else ids.index(cursor) + 1
    shown = items[begin : begin + limit]
    return Listing(shown, shown[-1].id if begin + limit < len(items) else None, others[:limit])
