"""The methods that are compared, by name, behind one Protocol: frames in, `Localizations` out.

Every method is made from the same two things: a calibration (as `calibrate`
makes it from a sweep, or the exact pattern as one) and the camera. Networks
come as model folders instead, which were trained from such a calibration.
Modules are imported when a method is made, so a missing package disables only
its own method.

A method returns all candidates, and its `probability` is a score that orders
them. The decision threshold is set afterwards, in the same way for all, on one
validation set (see `evaluation.experiments.benchmark.tune`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibration import Calibration
from models.camera import CameraModel
from models.errors import DataError
from models.tables import Localizations

__all__ = ["METHODS", "Method", "MethodMissing", "make_method", "needs_model"]

_LOWEST_PROBABILITY = 0.05
"""Lowest score of candidates kept for tuning; below it there are thousands a frame."""

_LOWEST_COEFFICIENT = 0.2
"""The same of a look-up, whose score is a correlation: noise of a wide pattern reaches it everywhere."""


class Method(Protocol):
    """Frames to localizations."""

    @property
    def name(self) -> str:
        """As in the registry."""

    def __call__(self, counts: NDArray[np.uint16], frame_numbers: NDArray[np.int64]) -> Localizations:
        """Localize frames (B, H, W) of camera counts with the numbers (B,)."""


class MethodMissing(DataError):
    """A method that is known but cannot run here: its package or its model is not there."""


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    localize: Callable[[NDArray[np.uint16], NDArray[np.int64]], Localizations]

    def __call__(self, counts: NDArray[np.uint16], frame_numbers: NDArray[np.int64]) -> Localizations:
        return self.localize(counts, frame_numbers)


def make_method(
    name: str,
    calibration: Calibration,
    camera: CameraModel,
    model_folder: Path | None = None,
    threshold: float | None = None,
) -> Method:
    """Build a method.

    Parameters
    ----------
    name : str
        One of `METHODS`.
    calibration : Calibration
        Calibration of the optics. Networks were trained from one and ignore it.
    camera : CameraModel
        Of the frames.
    model_folder : Path, optional
        Of a network; the shipped one for ``cascade`` when not given.
    threshold : float, optional
        Lowest score of a localization; as low as useful when not given.

    Returns
    -------
    Method

    Raises
    ------
    MethodMissing
        When its package is not installed, or a network has no model folder.
    DataError
        When the name is unknown or the model folder is damaged.
    """
    if name not in METHODS:
        raise DataError(f"Method {name!r} is not known.", f"Choose among {', '.join(METHODS)}.")
    return METHODS[name](name, calibration, camera, model_folder, threshold)


def needs_model(name: str) -> bool:
    """Whether a method is a network, made from a model folder."""
    return METHODS[name] in (_network, _refined_network)


def _network(
    name: str, _calibration: Calibration, camera: CameraModel, folder: Path | None, threshold: float | None
) -> Method:
    from models.localization import Localizer

    localizer = Localizer.load(_model_folder(name, folder), camera=camera)
    lowest = _LOWEST_PROBABILITY if threshold is None else threshold
    localizer.card = replace(localizer.card, threshold=lowest)
    return _Named(name, localizer.localize)


def _refined_network(
    name: str, _calibration: Calibration, camera: CameraModel, folder: Path | None, threshold: float | None
) -> Method:
    """Network, then the joint fit of its candidates, which computes their probabilities again."""
    from models.localization import Localizer

    localizer = Localizer.load(_model_folder(name.split()[0], folder), camera=camera)
    refiner = localizer.refiner()
    lowest = _LOWEST_PROBABILITY if threshold is None else threshold
    localizer.card = replace(localizer.card, threshold=lowest)
    return _Named(name, lambda counts, numbers: localizer.localize_finely(counts, numbers, refiner))


def _model_folder(name: str, folder: Path | None) -> Path:
    from models.model_card import ModelCard
    from models.weights import reference_model

    if folder is None:
        if name != "cascade":
            raise MethodMissing(
                f"No model of {name} was named, and none is shipped.",
                f"Train one with `bathyscope train --architecture {name}`, and name its folder with --model.",
            )
        return reference_model("full")
    architecture = ModelCard.load(folder).architecture
    if architecture != name:
        raise DataError(f"The model in {folder} is a {architecture}, not a {name}.", "Name another folder.")
    return folder


def _spot_fit(
    name: str, calibration: Calibration, camera: CameraModel, _folder: Path | None, threshold: float | None
) -> Method:
    from evaluation.methods import SpotFitter
    from evaluation.methods.published_fitters import PackageMissing

    lowest = _LOWEST_PROBABILITY if threshold is None else threshold
    try:
        fitter = SpotFitter(calibration, camera, estimator=name, threshold=lowest)
    except PackageMissing as error:
        raise MethodMissing(error.problem, error.remedy) from error
    return _flat(name, fitter, calibration)


def _pursuit(
    name: str, calibration: Calibration, camera: CameraModel, _folder: Path | None, threshold: float | None
) -> Method:
    from evaluation.methods import PursuitFitter

    lowest = _LOWEST_PROBABILITY if threshold is None else threshold
    return _flat(name, PursuitFitter(calibration, camera, threshold=lowest), calibration)


def _lookup(
    name: str, calibration: Calibration, camera: CameraModel, _folder: Path | None, threshold: float | None
) -> Method:
    from evaluation.methods.lookup import PatternLookup

    lowest = _LOWEST_COEFFICIENT if threshold is None else threshold
    return _flat(name, PatternLookup(calibration, camera, threshold=lowest), calibration)


def _flat(
    name: str, localize: Callable[[NDArray[np.uint16], NDArray[np.int64]], Localizations], calibration: Calibration
) -> Method:
    """A fit whose localizations are corrected by the field map of the calibration, as in a `Localizer`."""
    field = calibration.field
    if field is None:
        return _Named(name, localize)

    def flattened(counts: NDArray[np.uint16], numbers: NDArray[np.int64]) -> Localizations:
        return field.true(localize(counts, numbers))

    return _Named(name, flattened)


METHODS: dict[str, Callable[[str, Calibration, CameraModel, Path | None, float | None], Method]] = {
    "cascade": _network,
    "cascade --refine": _refined_network,
    "vgg": _network,
    "fcn": _network,
    "mle": _spot_fit,
    "ls": _spot_fit,
    "mle-multi": _pursuit,
    "lookup": _lookup,
}
