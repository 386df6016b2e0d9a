"""Calibration: from a z-sweep of beads to a PSF; the entry point is `calibrating.calibrate`."""
