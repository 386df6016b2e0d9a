"""Errors of the client: what the service refused, and that it is away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bathyscope_errors import BathyscopeError

__all__ = ["MissingPackage", "ServiceAway", "ServiceError", "problem_of"]

_URN = "urn:bathyscope:problem:"


class ServiceError(BathyscopeError):
    """The service refused a request, or a job failed.

    Parameters
    ----------
    problem, remedy : str
        What happened and what to do about it, as the service states it.
    kind : str
        Kind of the problem, such as ``"conflict"`` or ``"validation"``.
    title : str
        The kind in words.
    status : int or None
        HTTP status; None for a problem that came in another way (a job, the control of the microscope).
    errors : list of mapping
        The values that break a rule, each with ``field``, ``value`` and ``rule``.
    """

    def __init__(
        self,
        problem: str,
        remedy: str,
        *,
        kind: str = "internal",
        title: str = "",
        status: int | None = None,
        errors: list[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(problem, remedy)
        self.kind = kind
        self.title = title
        self.status = status
        self.errors = errors or []


class ServiceAway(ServiceError):
    """The service does not respond: it is not there, or the network is broken."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy, kind="service-away", title="The service does not respond")


class MissingPackage(BathyscopeError, ImportError):
    """A Python package that is needed here is not installed."""

    kind = "missing-package"


def problem_of(values: Mapping[str, Any], status: int | None = None) -> ServiceError:
    """The error that a problem of the service (RFC 9457) describes.

    Parameters
    ----------
    values : mapping
        The problem.
    status : int, optional
        The HTTP status, when the problem does not state it.
    """
    return ServiceError(
        str(values.get("detail") or values.get("title") or "The service refused the request."),
        str(values.get("remedy") or "See the log of the service."),
        kind=str(values.get("type", "")).removeprefix(_URN) or "internal",
        title=str(values.get("title", "")),
        status=values.get("status", status),
        errors=list(values.get("errors") or []),
    )
