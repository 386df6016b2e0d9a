"""The page that shows what a calibration rests on."""

from __future__ import annotations

from models.calibration import Calibration

__all__ = ["render_report"]


def render_report(calibration: Calibration) -> str:
    """HTML page with pictures."""
    return f"<!doctype html><title>{calibration.id}</title>"
