"""Ids of calibrations, models and jobs: sortable by time, different for two made in the same second."""

from __future__ import annotations

import secrets
import time

__all__ = ["new_id"]


def new_id() -> str:
    """An id such as ``20261122T011500-ab12`` (UTC)."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + "-" + secrets.token_hex(2)
