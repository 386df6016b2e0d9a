"""The base of all errors that are written for the user of Bathyscope.

A person at the microscope reads these messages, so each one states the value
that was given or what happened, the rule that it breaks, and what to do next.
The command line prints them as they are, and the HTTP API sends them as
problems, with one status for each kind.

This file stands beside the packages and imports none of them, because `models`
and `hardware` import neither each other nor `service`, and share it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["BathyscopeError"]


class BathyscopeError(Exception):
    """What went wrong, and what the user can do about it.

    A subclass states its `kind`, or sets one for each error.

    Parameters
    ----------
    problem : str
        What happened, or the value that was given and the rule that it breaks.
    remedy : str
        What the user can do about it.

    Attributes
    ----------
    kind : str
        Short machine-readable name, on which programs decide and from which the HTTP status follows.
    """

    kind: str

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with all parts, so that the error crosses process boundaries whole."""
        return (_restored, (type(self), self.kind, self.problem, self.remedy))


def _restored(error_type: type[BathyscopeError], kind: str, problem: str, remedy: str) -> BathyscopeError:
    error = error_type.__new__(error_type)
    BathyscopeError.__init__(error, problem, remedy)
    error.kind = kind
    return error
