"""Joining the pieces of a track that was lost for longer than it can coast.

A piece that ends is carried forward to the beginning of a later piece, from
all that is known at its end. The gain of a pair is the log-likelihood ratio of
two hypotheses: one emitter that was not found in between, against an emitter
that vanished and another one that appeared. The pairs with the largest sum of
gains are joined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.assignment import assign
from models.tracking.links import TrackLinks
from models.tracking.motion_models import Gaussians, combined, mix, predict
from models.tracking.smoothing import Motion, Path, filter_paths

__all__ = ["relink"]

F64 = NDArray[np.float64]

_LONGEST_GAP_FRAMES = 200
_UNSEEN = 0.97
"""Probability, per frame, that an emitter that was lost is still there and still not found."""

_LEAST_GAIN = 3.0
"""Joined only when 20 times as probable as two emitters: a wrong identity is worse than two pieces."""


def relink(tracks: Sequence[TrackLinks], paths: Sequence[Path], motion: Motion) -> list[TrackLinks]:
    """Join pieces of tracks.

    Parameters
    ----------
    tracks : sequence of TrackLinks
    paths : sequence of Path
        Of the same tracks.
    motion : Motion

    Returns
    -------
    list of TrackLinks
        A joined track has the number of its first piece.
    """
    if len(tracks) < 2:
        return list(tracks)
    first = np.array([int(track.frame[0]) for track in tracks])
    last = np.array([int(track.frame[-1]) for track in tracks])
    times_first = np.array([path.t_s[0] for path in paths])
    times_last = np.array([path.t_s[-1] for path in paths])
    gap = first[None, :] - last[:, None]
    one, two = np.nonzero((gap > 0) & (gap <= _LONGEST_GAP_FRAMES))
    if len(one) == 0:
        return list(tracks)
    ends, weights = filter_paths(paths, motion)
    # The later piece as it is known at its beginning: filtered back in time.
    begins, begin_weights = filter_paths([path.reverse() for path in paths], motion)
    elapsed = times_first[two] - times_last[one]
    mixed, mixed_weights = mix(ends[..., one], weights[:, one], motion.stays(elapsed), motion.shares)
    ahead = predict(mixed, motion.bank, elapsed)
    speeds = np.mean(combined(begins, begin_weights)[1] ** 2, axis=1)
    gains = _overlap(ahead, mixed_weights, begins[..., two], begin_weights[:, two], speeds)
    gains += gap[one, two] * np.log(_UNSEEN) - np.log(_appearing(paths, first, last))
    # The assignment would refuse the others too; without them its graph falls into small parts.
    good = gains > _LEAST_GAIN
    left, right = assign(one[good], two[good], -gains[good], (len(tracks), len(tracks)), -_LEAST_GAIN)
    following = dict(zip(left.tolist(), right.tolist(), strict=True))
    joined = []
    for number in sorted(set(range(len(tracks))) - set(following.values())):
        whole, piece = tracks[number], number
        while piece in following:
            piece = following[piece]
            whole = whole.join(tracks[piece])
        joined.append(whole)
    return joined


def _overlap(a: Gaussians, a_weights: F64, b: Gaussians, b_weights: F64, speeds: F64) -> F64:
    """Log-likelihood (P,) that two states (5, M, 3, P) are of one emitter, against any velocity of the second.

    `speeds` (3,) is the mean squared velocity of all emitters, µm²/s².
    """
    one, two = a[:, :, None], b[:, None]
    away_p, away_v = two[0] - one[0], two[1] - one[1]
    s_pp, s_pv, s_vv = one[2] + two[2], one[3] + two[3], one[4] + two[4]
    determinant = s_pp * s_vv - s_pv**2
    square = (s_vv * away_p**2 - 2 * s_pv * away_p * away_v + s_pp * away_v**2) / determinant
    logs = -0.5 * (square + np.log(determinant) + 2 * np.log(2 * np.pi)).sum(axis=2)
    with np.errstate(divide="ignore"):  # precise localizations may exclude a kind of motion
        logs += np.log(a_weights[:, None] * b_weights[None])
    best = logs.max(axis=(0, 1))
    together = best + np.log(np.exp(logs - best).sum(axis=(0, 1)))
    alone = combined(b, b_weights)
    spread = alone[4] + speeds[:, None]
    apart = -0.5 * (alone[1] ** 2 / spread + np.log(spread) + np.log(2 * np.pi)).sum(axis=0)
    result: F64 = together - apart
    return result


def _appearing(paths: Sequence[Path], first: NDArray[np.int64], last: NDArray[np.int64]) -> float:
    """Emitters that appear, per frame and µm³."""
    found = np.concatenate([path.measured_um[path.seen] for path in paths])
    size = np.maximum(np.ptp(found, axis=0), 1.0)
    return len(paths) / float(np.prod(size) * (last.max() - first.min() + 1))
