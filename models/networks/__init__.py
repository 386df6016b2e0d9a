"""Networks and their registry."""

from __future__ import annotations

from models.networks.architecture import Architecture
from models.networks.registry import (
    architecture_named,
    architecture_names,
    architecture_sizes,
    available_architectures,
    has_network,
)

__all__ = [
    "Architecture",
    "architecture_named",
    "architecture_names",
    "architecture_sizes",
    "available_architectures",
    "has_network",
]
