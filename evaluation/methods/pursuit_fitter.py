"""Multi-emitter maximum likelihood without a network: pursuit from an empty frame.

The strongest baseline. A matched filter finds the most significant peak of the
residual, all emitters so far are fitted jointly, emitters at a local optimum
are relocated, and those that are no longer significant are removed, until
nothing in the residual is significant (`residual_pursuit`).

The localizations have the same probability as those of the refined network,
but without a network's score. Significance alone would order the localizations
within a frame but not between frames: in bright frames errors of a fit are
significant too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.methods.residual_pursuit import PursuitSettings, ResidualPursuit
from models.calibration.calibration import Calibration
from models.camera import CameraModel
from models.fit.emitter_probability import EmitterProbability, probability
from models.fit.scale import fit_range_um
from models.fit.table import localizations_of
from models.tables import Localizations

__all__ = ["PursuitFitter"]

_ROUNDS = 400
"""A hundred emitters take two to three moves each; a frame ends earlier when nothing is significant."""


class PursuitFitter:
    """A method of the benchmark: counts and frame numbers to `Localizations`.

    Parameters
    ----------
    calibration : Calibration
        Source of the PSF and the depth range.
    camera : CameraModel
    threshold : float
        Localizations with a lower probability are left out. It is the probability that the fit describes an emitter.
    rounds : int
        Most moves in a frame.
    """

    name = "mle-multi"

    def __init__(
        self, calibration: Calibration, camera: CameraModel, *, threshold: float = 0.5, rounds: int = _ROUNDS
    ) -> None:
        self.threshold = threshold
        self._camera = camera
        settings = PursuitSettings(z_range_um=calibration.z_range_um, rounds=rounds)
        self._pursuit = ResidualPursuit(calibration.psf, camera, settings)
        self._reported_um = calibration.z_range_um
        self._fitted_um = fit_range_um(calibration.psf, calibration.z_range_um)

    def __call__(self, counts: NDArray[np.uint16], frame_numbers: NDArray[np.int64]) -> Localizations:
        """Localizations of frames, (B, H, W) counts with numbers (B,), in the order of the frames."""
        tables = []
        for frame, number in zip(counts, frame_numbers, strict=True):
            fit = self._pursuit.fit(self._camera.to_electrons(frame))
            unknown = np.full(len(fit.emitters), np.nan)
            estimator = EmitterProbability.of(fit, self._pursuit.spline, unknown)
            found = localizations_of(
                fit,
                int(number),
                probability(estimator.log_odds(fit.emitters[:, 3], fit.sigma[:, 3] ** 2)),
                spline=self._pursuit.spline,
                reported_um=self._reported_um,
                fitted_um=self._fitted_um,
            )
            tables.append(found.select(found.probability >= self.threshold))
        return Localizations.concatenate(tables)
