"""What can go wrong between the service and its database."""

from __future__ import annotations

from bathyscope_errors import BathyscopeError

__all__ = ["InUse", "StoreError", "UnknownItem"]


class StoreError(BathyscopeError):
    """The database cannot be opened, is of another version, or does not respond in time."""

    kind = "store"


class UnknownItem(StoreError):
    """There is no run or track of this name: it was mistyped, deleted, or belongs to another data directory."""

    kind = "unknown-item"


class InUse(BathyscopeError):
    """Something cannot be changed or computed now, because of the state that it is in or of what uses it."""

    kind = "conflict"
