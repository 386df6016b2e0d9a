"""Scores from a script: positions compared with the truth."""

from __future__ import annotations

import warnings

from models.metrics import TOLERANCE_UM, Positions, Region, Score, frames_remark, places_remark, score_table

__all__ = ["evaluate"]


def evaluate(
    predicted: Positions,
    truth: Positions,
    tolerance_um: float = TOLERANCE_UM,
    z_range_um: tuple[float, float] | None = None,
) -> Score:
    """Score positions against the truth, frame by frame.

    In each frame as many pairs as possible are matched, then with the least total distance.

    Parameters
    ----------
    predicted : Localizations or Tracks
    truth : Truth
        Any table with the columns `frame`, `x_um`, `y_um`, `z_um`.
    tolerance_um : float
        Largest 3D distance of a match, µm.
    z_range_um : (low, high), optional
        Depths in which truth counts, µm; all by default.

    Returns
    -------
    Score
        Jaccard index, precision, recall, counts, and RMSE in µm; all in ``as_dict()``.

    Raises
    ------
    DataError
        When the tables have no frames in common, or too many pairs are within the tolerance.

    Warns
    -----
    UserWarning
        When frame numbers or positions of the tables do not seem to belong together.

    Examples
    --------
    Two emitters; one was found 1 µm too deep, the other was missed:

    >>> import bathyscope
    >>> emitters = {"frame": [0, 0], "x_um": [5.0, 50.0], "y_um": [5.0, 5.0], "z_um": [20.0, 30.0]}
    >>> truth = bathyscope.Truth.from_columns(emitters | {"track_id": [1, 2]})
    >>> found = bathyscope.Truth.from_columns({"frame": [0], "x_um": [5], "y_um": [5], "z_um": [21], "track_id": [-1]})
    >>> score = bathyscope.evaluate(found, truth)
    >>> score.jaccard, score.recall, score.rmse_axial_um
    (0.5, 0.5, 1.0)
    """
    score = score_table(predicted, truth, tolerance_um, Region(z_um=z_range_um) if z_range_um else None)
    for remark in filter(None, (frames_remark(predicted, truth), places_remark(predicted, truth, score))):
        warnings.warn(remark, stacklevel=2)
    return score
