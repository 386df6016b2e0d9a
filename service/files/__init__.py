"""Calibrations, models and jobs as folders of the data directory, and outputs that appear only when complete."""
