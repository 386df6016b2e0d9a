"""The error of every input that the models cannot use."""

from __future__ import annotations

from bathyscope_errors import BathyscopeError

__all__ = ["DataError"]


class DataError(BathyscopeError, ValueError):
    """Input that cannot be used: a sweep, a movie, a table, a model folder."""

    kind = "data"
