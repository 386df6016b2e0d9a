"""The two ways in which a request to the engine fails: no reply, and a refusal."""

from __future__ import annotations

from bathyscope_errors import BathyscopeError

__all__ = ["EngineAway", "EngineRefusal"]


class EngineAway(BathyscopeError):
    """The engine does not respond: it is starting, being restarted, or stays down after repeated failures.

    `problem` and `remedy` are taken from the supervisor's record where it states them.
    """

    kind = "engine-away"

    def __init__(self, problem: str, remedy: str = "Try again in a few seconds.") -> None:
        super().__init__(problem, remedy)


class EngineRefusal(BathyscopeError):
    """The engine has received the command and does not run it.

    Parameters
    ----------
    kind : str
        ``"conflict"`` (the microscope is in use), ``"not_found"``, ``"invalid"`` (wrong arguments), ``"unavailable"``
        (no microscope or no model now), ``"microscope"`` (a driver's error), ``"internal"``.
    problem, remedy : str
        What is wrong and what to do about it.
    """

    def __init__(self, kind: str, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.kind = kind
