"""Plot: tracks seen from above, with depth as colour, and depth over time.

Run it with ``python examples/plot_tracks.py``. It writes the picture
``example-data/tracks.png`` where you are. To plot a table of your own, read it
with ``bathyscope.read_table("tracks.csv")``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from simulated_data import FPS, record_movie

import bathyscope

folder = Path("example-data")
folder.mkdir(exist_ok=True)
record_movie(folder / "movie.ome.tif")
tracks = bathyscope.track(bathyscope.localize(folder / "movie.ome.tif", "full"), fps=FPS)

figure, (above, depth) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for number in np.unique(tracks.track_id):
    one = tracks.select(tracks.track_id == number)
    points = above.scatter(one.x_um, one.y_um, c=one.z_um, s=4, vmin=0, vmax=100)
    (line,) = depth.plot(one.t_s, one.z_um)
    # Two standard deviations on each side hold the true depth in about 95 of 100 frames.
    depth.fill_between(one.t_s, one.z_um - 2 * one.sigma_z_um, one.z_um + 2 * one.sigma_z_um, alpha=0.3)
above.set(xlabel="x (µm)", ylabel="y (µm)", aspect="equal", title="Seen from above")
above.invert_yaxis()  # y runs down in the image
figure.colorbar(points, ax=above, label="depth (µm)")
depth.set(xlabel="time (s)", ylabel="depth (µm)", title="Depth over time")
figure.savefig(folder / "tracks.png", dpi=150)
print(f"Wrote {folder / 'tracks.png'}.")
