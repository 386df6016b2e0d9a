"""The error that every bad input to the models ends in.

A person at the microscope reads these messages, so each one states the value
that was given, the rule it breaks, and what to do next.
"""

from __future__ import annotations

__all__ = ["DataError"]


class DataError(ValueError):
    """Input that cannot be used: a sweep, a movie, a table, a model folder.

    Parameters
    ----------
    problem : str
        The value that was given and the rule that it breaks.
    remedy : str
        What the user can do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[DataError], tuple[str, str]]:
        """Pickle with both parts, so that the error crosses process boundaries whole."""
        return (type(self), (self.problem, self.remedy))
