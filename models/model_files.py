"""Names of the files in a model's folder."""

from __future__ import annotations

__all__ = ["DESCRIPTION", "PSF", "WEIGHTS"]

DESCRIPTION, WEIGHTS, PSF = "model.json", "weights.safetensors", "psf.zarr"
"""The shipped models have no `PSF`, since theirs is computed."""
