"""Share of a cell's passage that one track follows."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.experiments.cell_tracks import passage_share
from models.tables import Tracks, Truth


def test_the_longest_track_of_a_passage_counts() -> None:
    frames = np.arange(10)
    x_um = 30.0 * np.ones(20)
    truth = Truth(np.tile(frames, 2), x_um, np.repeat([0.0, 50.0], 10), x_um, np.repeat([4, 9], 10))
    # The first passage is followed by two tracks, of six and of three frames; the second by none.
    followed = np.concatenate([frames[:6], frames[7:]])
    count = len(followed)
    nothing = np.zeros(count)
    tracks = Tracks(
        np.repeat([1, 2], [6, 3]),
        followed,
        followed / 100,
        nothing + 31,
        nothing + 1,
        nothing + 29,
        *([nothing] * 6),
        np.ones(count, np.int64),
        np.ones(count),
    )
    assert passage_share(tracks, truth) == pytest.approx(6 / 20)
    assert passage_share(Tracks.empty(), truth) == 0
