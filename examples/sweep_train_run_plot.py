"""Sweep, train, run, plot: the whole way with the client of the service, in under 20 lines.

Run it with ``python examples/sweep_train_run_plot.py [MINUTES]``. The private service
has a simulated microscope with beads on a slide. One minute of training gives a
rough model; use an hour for real work.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from bathyscope import Client

BEADS = {"simulated": {"height": 160, "width": 160, "emitters": 9, "sample": "slide", "frame_period_s": 0.05}}

if __name__ == "__main__":
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    with Client.demo(microscope=BEADS) as client:
        swept = client.jobs.wait(client.calibrations.start((0, 30), 1, name="slide", settle_s=0))
        trained = client.jobs.wait(client.models.train(swept, minutes=minutes, name="slide"))
        client.models.activate(trained)
        client.microscope.move(stage_um=-15)  # the beads are 15 µm above the focal plane now
        run = client.runs.wait(client.runs.start(name="slide", duration_s=5))
        tracks = client.runs.tracks(run)
    print(f"{run.ledger['analysed']} frames, {len(set(tracks['track_id']))} tracks with {tracks.rows} points")
    plt.scatter(tracks["t_s"], tracks["z_um"], c=tracks["track_id"], s=4)
    plt.gca().set(xlabel="time (s)", ylabel="depth (µm)")
    Path("example-data").mkdir(exist_ok=True)
    plt.savefig("example-data/tracks.png")
