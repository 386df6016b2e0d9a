"""The shipped model of the reference optics (10x/0.45, 0.65 µm/px, 0..100 µm).

``python -m models.weights --minutes M`` makes it again.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["reference_model"]


def reference_model() -> Path:
    """Folder of the shipped model."""
    return Path(__file__).parent / "reference"
