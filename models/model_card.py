"""Card of a trained model: the values of ``model.json`` in the model's folder.

The card holds what a user needs to decide whether the model fits a movie (pixel
size, depth range, camera, calibration, scores). Loading checks its values, and
the SHA-256 digest of the weights in the same folder. `models.localization`
loads the network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.camera import CameraModel
from models.errors import DataError
from models.field import FieldMap
from models.model_files import DESCRIPTION, WEIGHTS

__all__ = ["REFERENCE_CALIBRATION", "ModelCard", "weights_digest"]

REFERENCE_CALIBRATION = "computed-10x-0.45"
"""Calibration id of the shipped model: computed from the objective, not measured."""

_FORMAT = 1


@dataclass(frozen=True)
class ModelCard:
    """Values that describe a trained model.

    Attributes
    ----------
    id : str
    architecture : str
        Name in the registry of `models.networks`.
    network : dict
        Settings of the network.
    pixel_size_um : float
        Camera pixel at the sample.
    z_range_um : (low, high)
        Depths of its localizations, µm.
    axial_scale : float
        Depth in the sample per travel of the focus drive.
    camera : CameraModel
        Used for movies that state no camera.
    field : FieldMap or None
        Curvature of the optics, subtracted from the depths after the network.
    calibration_id : str
    threshold : float
        Least probability of a reported localization.
    map_bounds : dict or None
        Lowest and highest value of the network's maps, for evaluation in int8; None: not measured.
    training : dict
        Log of the training: frames, minutes, losses, seed, settings.
    scores : dict
        Scores on validation frames.
    weights_sha256 : str or None
        Digest of the described weights; None before the model is saved.
    """

    id: str
    architecture: str
    network: dict[str, Any]
    pixel_size_um: float
    z_range_um: tuple[float, float]
    axial_scale: float
    camera: CameraModel
    field: FieldMap | None
    calibration_id: str
    threshold: float
    map_bounds: dict[str, tuple[float, float]] | None = None
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    scores: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights_sha256: str | None = None

    def save(self, folder: Path) -> None:
        """Write model.json into `folder`, with the digest of the weights that are already there."""
        values = {
            "format": _FORMAT,
            "kind": "bathyscope-model",
            "id": self.id,
            "architecture": self.architecture,
            "network": self.network,
            "units": {"length": "um", "light": "photo-electrons"},
            "pixel_size_um": self.pixel_size_um,
            "z_range_um": list(self.z_range_um),
            "axial_scale": self.axial_scale,
            "camera": self.camera.as_dict(),
            "field": None if self.field is None else self.field.as_dict(),
            "calibration_id": self.calibration_id,
            "threshold": self.threshold,
            "map_bounds": self.map_bounds,
            "training": self.training,
            "scores": self.scores,
            "weights_sha256": weights_digest(folder),
        }
        (folder / DESCRIPTION).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def is_folder(folder: Path) -> bool:
        """Whether `folder` holds a model, whole or damaged: what a new one may replace."""
        return (folder / DESCRIPTION).is_file() and (folder / WEIGHTS).is_file()

    @classmethod
    def load(cls, folder: Path) -> ModelCard:
        """Read the card of the model in a folder.

        Raises
        ------
        DataError
            When it is missing, damaged or not a model, or when the weights beside it have another digest.
        """
        path = folder / DESCRIPTION
        if not path.is_file():
            raise DataError(
                f"{folder} holds no model.json, so it is not a model.", "Give a folder that `bathyscope train` made."
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.get("kind") != "bathyscope-model" or values.get("format") != _FORMAT:
                raise DataError(
                    f"{path} is of kind {values.get('kind')!r}, format {values.get('format')!r}; "
                    f"this version reads 'bathyscope-model', format {_FORMAT}.",
                    "Train the model again with this version.",
                )
            low, high = (float(v) for v in values["z_range_um"])
            card = cls(
                id=str(values["id"]),
                architecture=str(values["architecture"]),
                network=dict(values["network"]),
                pixel_size_um=_positive(values["pixel_size_um"]),
                z_range_um=(low, high),
                axial_scale=_positive(values["axial_scale"]),
                camera=CameraModel(**values["camera"]),
                field=None if values["field"] is None else FieldMap.from_dict(values["field"]),
                calibration_id=str(values["calibration_id"]),
                threshold=float(values["threshold"]),
                map_bounds=_bounds(values["map_bounds"]),
                training=dict(values["training"]),
                scores=dict(values["scores"]),
                weights_sha256=_digest(values["weights_sha256"]),
            )
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged ({type(error).__name__}: {error}).",
                "Restore the folder from a copy, or train again.",
            ) from error
        card._check_weights(folder)
        return card

    def _check_weights(self, folder: Path) -> None:
        """Refuse weights of another training. A missing file is left to the code that opens the weights."""
        path = folder / WEIGHTS
        if not path.is_file():
            return
        found, stated = weights_digest(folder), str(self.weights_sha256)
        if found != stated:
            raise DataError(
                f"{path} has the SHA-256 digest {found[:12]}…, but {DESCRIPTION} beside it describes weights with "
                f"{stated[:12]}…: the two are not of one training, or the file is damaged.",
                "Restore both files from one copy of the folder, or train again.",
            )


def weights_digest(folder: Path) -> str:
    """SHA-256 digest, in hexadecimal digits, of the weights in a model's folder."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def _digest(value: Any) -> str:
    if not (isinstance(value, str) and len(value) == hashlib.sha256().digest_size * 2):
        raise ValueError(f"weights_sha256 is {value!r}, which is no SHA-256 digest")
    return value


def _bounds(values: dict[str, Any] | None) -> dict[str, tuple[float, float]] | None:
    if values is None:
        return None
    return {str(name): (float(low), float(high)) for name, (low, high) in values.items()}


def _positive(value: Any) -> float:
    number = float(value)
    if not np.isfinite(number) or number <= 0:
        raise ValueError(f"{value!r} must be a positive number")
    return number
