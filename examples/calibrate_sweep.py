"""Calibrate: one z-sweep of beads becomes a calibration with a report.

Run it with ``python examples/calibrate_sweep.py``. It writes into the folder
``example-data`` where you are. For your own data, replace the path of the
sweep and the lengths.
"""

from __future__ import annotations

from pathlib import Path

from simulated_data import record_sweep

import bathyscope

folder = Path("example-data")
folder.mkdir(exist_ok=True)

# A sweep of your own is a TIFF, OME-Zarr or NDTiff file, or a folder of images.
sweep = folder / "sweep.ome.tif"
record_sweep(sweep)

# The file states its pixel size and its step. Depths are counted from focus.
calibration = bathyscope.calibrate(sweep, folder / "calibration", z_start_um=-6, z_range_um=(0, 20))

print(f"{calibration.report['beads_used']} of {calibration.report['beads_found']} beads were used.")
print(f"Focus is at {calibration.focus_um:.2f} µm of the sweep.")
print(f"The camera has an offset of {calibration.camera.offset_adu:.0f} ADU.")
for note in calibration.report["notes"]:
    print(f"Note: {note}")
print(f"Open {folder / 'calibration' / 'report.html'} and look at the beads.")
print("Next: bathyscope.train(calibration, 'model', minutes=10)")
