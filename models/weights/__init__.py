"""The shipped models of the reference optics (10x/0.45, 0.65 µm/px, 0..100 µm), one for each size of the network.

``python -m models.weights --size live --minutes M`` makes one again.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["reference_model"]


def reference_model(size: str = "full") -> Path:
    """Folder of a shipped model.

    Parameters
    ----------
    size : str
        ``"full"`` localizes best; ``"live"`` keeps up with 100 frames a second on a processor.
    """
    return Path(__file__).parent / size
