"""Score: compare positions and tracks with the truth.

Run it with ``python examples/score_against_truth.py``. The truth of simulated
movies is known; for real beads it comes from a sweep of beads that lie still.
"""

from __future__ import annotations

from pathlib import Path

from simulated_data import FPS, record_movie

import bathyscope

folder = Path("example-data")
folder.mkdir(exist_ok=True)
movie = folder / "movie.ome.tif"
truth = record_movie(movie)

positions = bathyscope.localize(movie, "full")
tracks = bathyscope.track(positions, fps=FPS)

# A position and an emitter match when they are less than 10 µm apart, in 3D.
for name, found in (("positions", positions), ("tracks", tracks)):
    score = bathyscope.evaluate(found, truth, tolerance_um=10)
    print(
        f"{name}: Jaccard index {score.jaccard:.2f} ({score.tp} found, {score.fn} missed, {score.fp} false), "
        f"error {score.rmse_lateral_um:.2f} µm sideways and {score.rmse_axial_um:.2f} µm in depth."
    )
