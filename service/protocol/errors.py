"""The two ways in which a request to the engine fails: no reply, and a refusal."""

from __future__ import annotations

__all__ = ["EngineAway", "EngineRefusal"]


class EngineAway(RuntimeError):
    """The engine does not answer: it is starting, being restarted, or stays down after failing again and again.

    Attributes
    ----------
    problem, remedy : str
        What is known about it, from the supervisor's record.
    """

    def __init__(self, problem: str, remedy: str = "Try again in a few seconds.") -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


class EngineRefusal(RuntimeError):
    """The engine answers, and says no.

    Attributes
    ----------
    kind : str
        ``"conflict"`` (something else is going on), ``"not_found"``, ``"invalid"`` (bad arguments), ``"unavailable"``
        (no microscope or no model now), ``"microscope"`` (a driver's error), ``"internal"``.
    problem, remedy : str
        What is wrong and what to do about it.
    """

    def __init__(self, kind: str, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.kind = kind
        self.problem = problem
        self.remedy = remedy
