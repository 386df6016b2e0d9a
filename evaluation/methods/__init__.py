"""Classical baselines: fits of one emitter at a time by published packages, and of all together without a network."""

from evaluation.methods.pursuit_fitter import PursuitFitter
from evaluation.methods.spot_fitter import SpotFitter

__all__ = ["PursuitFitter", "SpotFitter"]
