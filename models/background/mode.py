"""The three ways to treat light that stands still; apart from the estimate, whose imports take longer."""

from __future__ import annotations

from typing import Literal

__all__ = ["StaticLightMode"]

StaticLightMode = Literal["auto", "on", "off"]
"""auto: removed when the rule says so (see `models.background.rule`); on: always; off: never estimated."""
