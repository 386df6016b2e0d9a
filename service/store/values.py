"""Values as JSON text, for the database and the HTTP layer: an undefined number is null, for JSON has no NaN."""

from __future__ import annotations

import json
import math

__all__ = ["dump_json"]


def dump_json(value: object) -> str:
    """JSON text of dicts, lists, text and numbers; NaN and infinity become null."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_without_nan(value), allow_nan=False, separators=(",", ":"))


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
