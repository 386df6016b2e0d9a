"""The classical rivals: fits of one emitter at a time by published packages, and of all together without a network."""

from models.fitting.pursuit_fitter import PursuitFitter
from models.fitting.spot_fitter import SpotFitter

__all__ = ["PursuitFitter", "SpotFitter"]
