"""Track: a movie becomes 3D positions, and positions become 3D tracks.

Run it with ``python examples/track_movie.py``. It writes two tables into the
folder ``example-data`` where you are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from simulated_data import FPS, record_movie

import bathyscope

folder = Path("example-data")
folder.mkdir(exist_ok=True)
movie = folder / "movie.ome.tif"
record_movie(movie)

# The shipped model fits the simulated optics. For yours, give the folder that bathyscope.train wrote.
model = bathyscope.load_model("full")

positions = bathyscope.localize(movie, model)
bathyscope.write_table(folder / "positions.csv", positions)
print(f"{len(positions)} positions in {len(np.unique(positions.frame))} frames.")

tracks = bathyscope.track(positions, fps=FPS)
bathyscope.write_table(folder / "tracks.csv", tracks)
for number in np.unique(tracks.track_id):
    one = tracks.select(tracks.track_id == number)
    print(
        f"Track {number}: {len(one)} frames, depth {one.z_um[0]:.1f} to {one.z_um[-1]:.1f} µm, "
        f"uncertain by {np.median(one.sigma_z_um):.2f} µm."
    )
