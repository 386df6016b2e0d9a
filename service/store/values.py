"""Values as JSON text, for the database and the HTTP layer: an undefined number is null, for JSON has no NaN."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["dump_json", "load_json"]


def dump_json(value: object) -> str:
    """JSON text of dicts, lists, text and numbers.

    NaN and infinity become null; halves of a character (from a driver or a file name) become "?", because neither
    UTF-8 nor PostgreSQL has them.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_without_nan(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode("utf-8")


def load_json(text: str | bytes) -> Any:
    """The values of JSON text; None when it is damaged, so that one damaged row does not hide the others of a list."""
    try:
        value = json.loads(text)
        # Earlier versions wrote halves of a character as escapes, which cannot be encoded in a response.
        return json.loads(dump_json(value)) if "\\ud" in str(text) else value
    except (ValueError, RecursionError):
        return None


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
