"""Sweep, train, run, plot with the client, on the DemoCamera of Micro-Manager: a real core, and beads that it draws.

Run it with ``python examples/democamera.py [MINUTES]`` after
``pip install 'bathyscope[democamera]'``. The DemoCamera blurs its beads with the distance
from focus and draws no rings, so depths are rougher than on a real microscope.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from bathyscope import Client

BEADS = {"Mode": "Fluorescent Beads", "PixelType": "16bit", "BitDepth": "16", "BeadDensity": "10"}
CAMERA = {"exposure_s": 0.05, "roi": [128, 128, 256, 256]}
MICROSCOPE = {
    "stage_low_um": -100,
    "stage_high_um": 100,
    "xy_low_um": [-500, -500],
    "xy_high_um": [500, 500],
    "micromanager": {"properties": {"Camera": BEADS}},
}

if __name__ == "__main__":
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with Client.demo("democamera", microscope=MICROSCOPE, camera=CAMERA) as client:
        swept = client.jobs.wait(client.calibrations.start((0, 40), 2, name="DemoCamera"))
        trained = client.jobs.wait(client.models.train(swept, minutes=minutes, name="DemoCamera"))
        client.models.activate(trained)
        depth_um = 20
        client.microscope.move(stage_um=client.calibrations.get(swept).focus_um + depth_um)
        run = client.runs.wait(client.runs.start(name="DemoCamera", duration_s=5))
        tracks = client.runs.tracks(run)
    print(f"{run.ledger['analysed']} frames, {len(set(tracks['track_id']))} tracks with {tracks.rows} points")
    print(f"Median depth {np.median(tracks['z_um']):.1f} µm, {depth_um} µm from focus by the stage.")
    plt.scatter(tracks["t_s"], tracks["z_um"], c=tracks["track_id"], s=4)
    plt.gca().set(xlabel="time (s)", ylabel="depth (µm)")
    Path("example-data").mkdir(exist_ok=True)
    plt.savefig("example-data/democamera.png")
