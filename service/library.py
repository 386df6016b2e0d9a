"""The calibrations and models of one data directory, and which model is active.

Both are folders, made by a job or copied there by hand, and are known by the
id that is written in them. The shipped models, and the one that the settings
name, are listed with those of the directory. Descriptions are read as plain
JSON: the HTTP process needs neither torch nor the optics.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from models.errors import DataError
from models.weights import reference_model
from service.outputs import write_json
from service.store.errors import UnknownItem
from service.store.pages import Page

__all__ = ["CalibrationItem", "Library", "ModelItem"]

Source = Literal["library", "settings", "shipped"]
Item = TypeVar("Item", "CalibrationItem", "ModelItem")

_SHIPPED_SIZES = ("live", "full")


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

    def calibrations(self, limit: int = 100, cursor: str | None = None) -> Page[CalibrationItem]:
        """At most `limit` calibrations, newest first; folders that cannot be read are left out.

        Raises
        ------
        DataError
            When `cursor` is none that a list gave.
        """
        return _page([_calibration_item(folder, values) for folder, values in self._all_calibrations()], limit, cursor)

    def calibration_folder(self, calibration_id: str) -> Path:
        """Where a calibration is.

        Raises
        ------
        UnknownItem
            When there is none of this id.
        """
        for folder, values in self._all_calibrations():
            if values["id"] == calibration_id:
                return folder
        raise UnknownItem(
            f"There is no calibration {calibration_id[:64]!r}.", "See /api/v1/calibrations for those that there are."
        )

    def calibration(self, calibration_id: str) -> dict[str, Any]:
        """Everything that is known of one, as in its calibration.json, and its name.

        Raises
        ------
        UnknownItem
            When there is none of this id.
        """
        folder = self.calibration_folder(calibration_id)
        return {**_read(folder / "calibration.json"), "name": _name(folder)}

    def report(self, calibration_id: str) -> Path:
        """The page of a calibration.

        Raises
        ------
        UnknownItem
            When there is no calibration of this id, or it has no page.
        """
        page = self.calibration_folder(calibration_id) / "report.html"
        if not page.is_file():
            raise UnknownItem(f"Calibration {calibration_id} has no report.", "Calibrate again to get one.")
        return page

    def _all_calibrations(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for folder in _folders(self._calibrations):
            values = _read(folder / "calibration.json")
            if values.get("kind") == "bathyscope calibration" and isinstance(values.get("id"), str):
                yield folder, values

    # ---- models ----

    def models(self, limit: int = 100, cursor: str | None = None) -> Page[ModelItem]:
        """At most `limit` models, newest first; folders that cannot be read are left out.

        Raises
        ------
        DataError
            When `cursor` is none that a list gave.
        """
        return _page([_model_item(*found) for found in self._all_models()], limit, cursor)

    def model_folder(self, model_id: str) -> Path:
        """Where a model is.

        Raises
        ------
        UnknownItem
            When there is none of this id.
        """
        for folder, values, _ in self._all_models():
            if values["id"] == model_id:
                return folder
        raise UnknownItem(f"There is no model {model_id[:64]!r}.", "See /api/v1/models for those that there are.")

    def model(self, model_id: str) -> dict[str, Any]:
        """Everything that is known of one, as in its model.json, and its name.

        Raises
        ------
        UnknownItem
            When there is none of this id.
        """
        folder = self.model_folder(model_id)
        return {**_read(folder / "model.json"), "name": _name(folder)}

    def _all_models(self) -> Iterator[tuple[Path, dict[str, Any], Source]]:
        places: list[tuple[Path, Source]] = [(folder, "library") for folder in _folders(self._models)]
        if self._model_of_settings is not None:
            places.append((self._model_of_settings, "settings"))
        places += [(reference_model(size), "shipped") for size in _SHIPPED_SIZES]
        seen: set[str] = set()
        for folder, source in places:
            values = _read(folder / "model.json")
            name = values.get("id")
            if values.get("kind") == "bathyscope-model" and isinstance(name, str) and name not in seen:
                seen.add(name)
                yield folder, values, source

    # ---- the active model ----

    def activate(self, model_id: str) -> None:
        """Remember which model is active, until another is, or the settings name another.

        Raises
        ------
        DataError
            When it cannot be written.
        """
        write_json(self._models / "active.json", {"id": model_id, "settings": self._named_by_settings})

    def active_folder(self) -> Path | None:
        """Where the model is that was made active; None when none was, or the settings name another since.

        Raises
        ------
        UnknownItem
            When it is gone.
        """
        chosen = _read(self._models / "active.json")
        if not isinstance(chosen.get("id"), str) or chosen.get("settings") != self._named_by_settings:
            return None
        return self.model_folder(chosen["id"])

    @property
    def _named_by_settings(self) -> str | None:
        return None if self._model_of_settings is None else str(self._model_of_settings)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return []


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _name(folder: Path) -> str:
    return str(_read(folder / "about.json").get("name", ""))


def _calibration_item(folder: Path, values: dict[str, Any]) -> CalibrationItem | None:
    try:
        report = values["report"]
        return CalibrationItem(
            id=values["id"],
            name=_name(folder),
            created_at=_date(folder / "calibration.json"),
            z_range_um=(float(values["z_range_um"][0]), float(values["z_range_um"][1])),
            pixel_size_um=float(values["pixel_size_um"]),
            focus_um=float(values["focus_um"]),
            axial_scale=float(values["axial_scale"]),
            sign=int(values["sign"]),
            beads_used=report.get("beads_used"),
            beads_found=report.get("beads_found"),
            notes=[str(note) for note in report.get("notes", ())],
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError):
        return None


def _model_item(folder: Path, values: dict[str, Any], source: Source) -> ModelItem | None:
    try:
        training = values["training"]
        return ModelItem(
            id=values["id"],
            name=_name(folder),
            created_at=_date(folder / "model.json"),
            source=source,
            architecture=str(values["architecture"]),
            size=training.get("settings", {}).get("size"),
            calibration_id=str(values["calibration_id"]),
            z_range_um=(float(values["z_range_um"][0]), float(values["z_range_um"][1])),
            pixel_size_um=float(values["pixel_size_um"]),
            minutes=training.get("minutes"),
            scores=dict(values["scores"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError):
        return None


def _date(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _page(found: list[Item | None], limit: int, cursor: str | None) -> Page[Item]:
    items = sorted((item for item in found if item is not None), key=lambda item: (item.created_at, item.id))[::-1]
    ids = [item.id for item in items]
    if cursor is not None and cursor not in ids:
        raise DataError(
            f"cursor {cursor[:40]!r} is none that a list gave.", "Use the 'next' of the page before, or leave it out."
        )
    begin = 0 if cursor is None else ids.index(cursor) + 1
    shown = items[begin : begin + limit]
    return Page(shown, shown[-1].id if begin + limit < len(items) else None)
