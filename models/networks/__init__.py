"""Networks and their registry."""

from __future__ import annotations

from models.networks.architecture import (
    Architecture,
    architecture_named,
    architecture_names,
    architecture_sizes,
)

__all__ = ["Architecture", "architecture_named", "architecture_names", "architecture_sizes"]
