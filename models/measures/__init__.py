"""Figures of tracks: displacement, speed, straightness, diffusion, exponent, each with its interval."""

from models.measures.diffusion import Estimates
from models.measures.exponents import Displacements
from models.measures.measuring import Measures, measure
from models.measures.sightings import Sightings
from models.measures.table import Ensemble, Interval, TrackMeasures

__all__ = [
    "Displacements",
    "Ensemble",
    "Estimates",
    "Interval",
    "Measures",
    "Sightings",
    "TrackMeasures",
    "measure",
]
