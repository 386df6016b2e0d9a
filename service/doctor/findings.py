"""What a check found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from bathyscope_errors import BathyscopeError

__all__ = ["Finding", "State", "checked", "error", "ok", "warning"]

State = Literal["ok", "warning", "error"]
"""``error``: the instrument does not work like this. ``warning``: it works, and something is likely to go wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes
    ----------
    check : what was checked, for example ``"camera"``
    state : ok, warning or error
    message : what was found, as a sentence
    remedy : what to do; None when it is ok
    details : further plain values
    """

    check: str
    state: State
    message: str
    remedy: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


def ok(check: str, message: str, **details: Any) -> Finding:
    """A finding without anything to do."""
    return Finding(check, "ok", message, None, details)


def warning(check: str, message: str, remedy: str, **details: Any) -> Finding:
    """A finding that is likely to cause trouble."""
    return Finding(check, "warning", message, remedy, details)


def error(check: str, message: str, remedy: str, **details: Any) -> Finding:
    """A finding with which the instrument does not work."""
    return Finding(check, "error", message, remedy, details)


def checked(check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of one check; its exception is a finding too, so that the other checks are made."""
    try:
        yield from look()
    except BathyscopeError as fault:
        yield error(check, fault.problem, fault.remedy)
    except Exception as fault:  # noqa: BLE001  a driver, a disk or a library may raise anything
        text = " ".join(str(fault).split())
        yield error(check, f"The check failed ({type(fault).__name__}: {text}).", "Report it, with this line.")
