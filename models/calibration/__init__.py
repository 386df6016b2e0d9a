"""From a z-sweep of beads to what the optics do to a point of light: `calibrating.calibrate` leads through it."""
