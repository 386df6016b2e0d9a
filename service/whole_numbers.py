"""Whole numbers of JSON. JSON has one kind of number: 1.0 is the same as 1, and some programs write it so."""

from __future__ import annotations

from pydantic import BeforeValidator

__all__ = ["WHOLE"]


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Makes an integer of 1.0, also where the model is strict; 1.5, "1" and true are refused there.

It is the last part of the type, behind the bounds: ``Annotated[int, Field(ge=0, le=9), WHOLE]``.
"""
