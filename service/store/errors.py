"""What can go wrong between the service and its database.

Every error says what happened and what the user can do, because the HTTP
layer and the command line show both as they are.
"""

from __future__ import annotations

__all__ = ["StoreError", "UnknownItem"]


class StoreError(RuntimeError):
    """The database cannot be opened, is of another version, or does not respond in time.

    Parameters
    ----------
    problem : str
        What happened.
    remedy : str
        What the user can do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[StoreError], tuple[str, str]]:
        """Pickle with both parts, so that the error crosses process boundaries whole."""
        return (type(self), (self.problem, self.remedy))


class UnknownItem(StoreError):
    """There is no run or track of this name: it was mistyped, deleted, or belongs to another data directory."""
