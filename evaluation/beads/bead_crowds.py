"""Dense frames with known truth from a real sweep: the light of three of its planes added.

A sweep of beads on one slide has one depth per exposure. Each composed frame is
the sum of one plane from each third of the depth range. Each plane is a
window of the field at another position, so that a bead does not appear three
times at one position.

Noise. Counts less the camera's offset are added, so signal and background
keep their own shot noise, whose variances add as the light does. The variances
of the read noise add too, so its standard deviation is √3 times that of one
exposure. The frame corresponds to a camera with √3 times the read noise that
sees three slides at once with three times the background; methods get that
camera model.

Truth. Each bead is at its plane's depth and at the height that the slide's
tilt, known from the calibration, adds there. The field map of the optics acts
at a bead's original position in the field, but a method corrects for the
position in the composed frame, so the truth is shifted by the difference of
both. Beads of the calibration are in the frames too: they are ignored,
together with the localizations that pair with them or, left over, lie
laterally nearest to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.beads.bead_scores import BeadScore, score_depths
from evaluation.scores.scoring import localizations_by_frame
from models.calibration.calibration import Calibration
from models.calibration.sweep import Sweep
from models.camera import CameraModel
from models.metrics import TOLERANCE_UM, Score, match
from models.tables import Localizations

__all__ = ["LAYERS", "Crowds", "best_threshold", "compose_crowds", "score_crowd_depths", "score_crowds"]

F64 = NDArray[np.float64]

LAYERS = 3
"""Planes that are added."""

_THRESHOLDS = 40


@dataclass(frozen=True)
class Crowds:
    """Composed frames.

    Attributes
    ----------
    counts : ndarray of uint16, shape (F, H, W)
    camera : CameraModel
        That would have taken them.
    places_um : ndarray of float64, shape (F, 3, N, 3)
        x, y, z of every bead in every layer.
    inside : ndarray of bool, shape (F, 3, N)
        Which of them are in the frame.
    depths_um : ndarray of float64, shape (F, 3)
        Of the slide.
    beads_um : ndarray of float64, shape (N, 2)
        Places on the slide.
    """

    counts: NDArray[np.uint16]
    camera: CameraModel
    places_um: F64
    inside: NDArray[np.bool_]
    depths_um: F64
    beads_um: F64

    def __len__(self) -> int:
        return len(self.counts)


def compose_crowds(
    sweep: Sweep,
    calibration: Calibration,
    beads_um: F64,
    frames: int,
    shift_px: int,
    rng: np.random.Generator,
) -> Crowds:
    """Add planes of a sweep.

    Parameters
    ----------
    sweep : Sweep
        Of beads on one slide.
    calibration : Calibration
        From this sweep: camera, focus, depth range, tilt of the slide and field map.
    beads_um : ndarray of float64, shape (N, 2)
        x, y of all beads that are known.
    frames : int
    shift_px : int
        Windows are smaller than the field by this, at random positions; with 0, beads of the three planes overlap.
    rng : numpy.random.Generator
        Chooses planes, repeats and windows.

    Returns
    -------
    Crowds
    """
    z_um = calibration.sign * calibration.axial_scale * (sweep.z_um - calibration.focus_um)
    thirds = np.linspace(*calibration.z_range_um, LAYERS + 1)
    repeats, height, width = sweep.planes.shape[1:]
    shape = (height - shift_px, width - shift_px)
    one = calibration.camera
    camera = replace(one, read_noise_e=float(np.sqrt(LAYERS)) * one.read_noise_e, bit_depth=16)
    counts = np.empty((frames, *shape), np.uint16)
    places = np.empty((frames, LAYERS, len(beads_um), 3))
    depths = np.empty((frames, LAYERS))
    for frame in range(frames):
        total = np.full(shape, one.offset_adu)
        for layer in range(LAYERS):
            (choice,) = np.nonzero((z_um >= thirds[layer]) & (z_um <= thirds[layer + 1]))
            plane, repeat = rng.choice(choice), rng.integers(repeats)
            top, left = rng.integers(0, shift_px + 1, 2)
            window = sweep.planes[plane, repeat, top : top + shape[0], left : left + shape[1]]
            total += window - one.offset_adu
            depths[frame, layer] = z_um[plane]
            corner = np.array([left, top]) * sweep.pixel_size_um
            places[frame, layer] = _seen_from(corner, beads_um, float(z_um[plane]), calibration)
        counts[frame] = np.clip(np.round(total), 0, camera.saturation_adu)
    edge = 0.5 * sweep.pixel_size_um
    size = np.array([shape[1], shape[0]]) * sweep.pixel_size_um
    inside: NDArray[np.bool_] = np.all((places[..., :2] >= -edge) & (places[..., :2] < size - edge), axis=-1)
    return Crowds(counts, camera, places, inside, depths, beads_um)


def _seen_from(corner_um: F64, beads_um: F64, z_um: float, calibration: Calibration) -> F64:
    """Where a method that removes the field map finds beads of the slide in a window at `corner_um`, shape (N, 3)."""
    x, y = beads_um.T
    z = np.full(len(beads_um), z_um)
    field = calibration.field
    if field is None:
        return np.column_stack([x - corner_um[0], y - corner_um[1], z])
    x, y, z = field.apparent_places(x, y, z + field.tilt_at(x, y))
    return np.column_stack(field.true_places(x - corner_um[0], y - corner_um[1], z))


def score_crowds(
    found: Localizations, crowds: Crowds, counted: NDArray[np.bool_], tolerance_um: float = TOLERANCE_UM
) -> Score:
    """Score of the localizations of the beads `counted` (N,); see the module for what is ignored."""
    total = Score()
    for localizations, places, inside in zip(
        localizations_by_frame(found, len(crowds)), crowds.places_um, crowds.inside, strict=True
    ):
        total += _frame_score(
            localizations, places[inside], np.broadcast_to(counted, inside.shape)[inside], tolerance_um
        )
    return total


def _frame_score(localizations: F64, truth: F64, counted: NDArray[np.bool_], tolerance_um: float) -> Score:
    paired, served = match(localizations, truth[counted], tolerance_um)
    square = (localizations[paired] - truth[counted][served]) ** 2
    left = np.delete(localizations, paired, axis=0)
    left = np.delete(left, match(left, truth[~counted], tolerance_um)[0], axis=0)
    false = 0
    if len(left) and len(truth):
        apart = np.hypot(left[:, None, 0] - truth[None, :, 0], left[:, None, 1] - truth[None, :, 1])
        false = int(counted[apart.argmin(axis=1)].sum())
    missed = int(counted.sum()) - len(served)
    return Score(len(served), false, missed, float(square[:, :2].sum()), float(square[:, 2].sum()))


def score_crowd_depths(found: Localizations, crowds: Crowds, counted: NDArray[np.bool_]) -> BeadScore:
    """Score localizations as `evaluation.beads.bead_scores` does for a sweep: bias and the tilt of the slide removed.

    Localizations are paired with beads within 10 µm in 3D, so gross errors show as missed beads.
    """
    error = np.full((len(crowds), LAYERS, len(crowds.beads_um)), np.nan)
    lateral = np.full((*error.shape, 2), np.nan)
    for frame, localizations in enumerate(localizations_by_frame(found, len(crowds))):
        layers, beads = np.nonzero(crowds.inside[frame])
        truth = crowds.places_um[frame, layers, beads]
        paired, served = match(localizations, truth)
        difference = localizations[paired] - truth[served]
        error[frame, layers[served], beads[served]] = difference[:, 2]
        lateral[frame, layers[served], beads[served]] = difference[:, :2]
    depth = (error + crowds.depths_um[..., None]).reshape(-1, len(crowds.beads_um))
    shifts = lateral.reshape(*depth.shape, 2)
    return score_depths(depth[:, counted], crowds.depths_um.ravel(), crowds.beads_um[counted], shifts[:, counted])


def best_threshold(candidates: Localizations, crowds: Crowds, counted: NDArray[np.bool_]) -> float:
    """Threshold with the highest Jaccard index of the beads `counted`; 0 without any localizations."""
    if len(candidates) == 0:
        return 0.0
    tried: Sequence[float] = np.unique(
        np.quantile(candidates.probability, np.linspace(0, 1, _THRESHOLDS, endpoint=False))
    ).tolist()
    return max(
        tried,
        key=lambda least: (
            score_crowds(candidates.select(candidates.probability >= least), crowds, counted).jaccard or 0.0
        ),
    )
