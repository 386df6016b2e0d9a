"""Errors as application/problem+json (RFC 9457): one map from exceptions to answers.

Every answer says what happened (`detail`) and what the user can do about it
(`remedy`). Handlers raise the errors of the parts that they call, and none
of them chooses a status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from hardware.microscope import MicroscopeError
from models.errors import DataError
from service.files.descriptions import FolderUnreadable
from service.protocol.errors import EngineAway, EngineRefusal
from service.store.errors import StoreError, UnknownItem
from service.store.values import dump_json

__all__ = ["MEDIA_TYPE", "NotReady", "Problem", "install_problems", "problem_response"]

MEDIA_TYPE = "application/problem+json"

_RETRY_AFTER_S = "2"
"""The supervisor restarts an engine within a few seconds."""

_TITLES = {
    400: "The request cannot be read",
    401: "The access key is missing or wrong",
    403: "Refused",
    404: "There is nothing here",
    405: "This resource has no such method",
    406: "This format is not offered",
    408: "The request took too long",
    409: "Something else is going on",
    413: "The body is too large",
    415: "This kind of body is not understood",
    422: "The request breaks a rule",
    500: "The service failed",
    503: "Not available now",
}

_REMEDIES = {
    400: "Send a JSON body with Content-Type: application/json.",
    404: "See /docs for the resources of this service.",
    405: "See /docs for the methods of this resource; the Allow header names them.",
    406: "Ask for application/json, text/csv or application/vnd.apache.parquet.",
    415: "Send a JSON body with Content-Type: application/json.",
}
_REMEDY = "See /docs, and the log of the service."

_REFUSALS = {"conflict": 409, "not_found": 404, "invalid": 422, "unavailable": 503, "microscope": 503}

_MICROSCOPE = {"stage_limit": 422, "busy": 409, "running": 409}
"""Causes that are the request's fault, or that pass; all others mean that the microscope is not to be had."""


class NotReady(RuntimeError):
    """The instrument cannot track now: the engine or the microscope is away, or the database does not respond.

    Parameters
    ----------
    problem, remedy : str
        Why, and what the user can do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


class FieldError(BaseModel):
    """One value of the request that breaks a rule."""

    field: str = Field(description="Where: query.limit, body.record, path.track.")
    value: Any = Field(description="What was given; null when it was missing.")
    rule: str = Field(description="The rule that it breaks.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Name of the kind of problem, as a URN.")
    title: str = Field(description="The kind of problem, in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened: value and rule.")
    remedy: str = Field(description="What to do about it.")
    errors: list[FieldError] | None = Field(None, description="The values that break a rule.")


def problem_response(
    status: int,
    detail: str,
    remedy: str,
    *,
    kind: str | None = None,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One problem as a response; `kind` is its machine-readable name."""
    title = _TITLES.get(status, "The request failed")
    body: dict[str, Any] = {
        "type": f"urn:bathyscope:problem:{kind or title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "remedy": remedy,
    }
    if errors is not None:
        body["errors"] = errors
    # Also where no middleware adds it: an answer to a failure must not be taken for a page.
    headers = {"X-Content-Type-Options": "nosniff", **(headers or {})}
    if status == 503:
        headers.setdefault("Retry-After", _RETRY_AFTER_S)
    return Response(dump_json(body), status, headers, MEDIA_TYPE)


def install_problems(app: FastAPI) -> None:
    """Give `app` the map from exceptions to problems."""

    @app.exception_handler(RequestValidationError)
    def _validation(request: Request, error: RequestValidationError) -> Response:
        kind = _other_kind(request, error.errors())
        if kind is not None:
            said = f"is {kind[:100]!r}" if kind else "is missing"
            return problem_response(415, f"Content-Type {said}; this resource takes application/json.", _REMEDIES[415])
        errors = [_field_error(fault) for fault in error.errors()]
        remedy = "Correct it; /docs states every rule."
        return problem_response(422, _sentence(errors[0]), remedy, kind="validation", errors=errors)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        asked = f"{request.method} {request.url.path[:200]}"
        remedy = _REMEDIES.get(error.status_code, _REMEDY)
        headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
        return problem_response(error.status_code, f"{asked}: {error.detail}.", remedy, headers=headers)

    @app.exception_handler(UnknownItem)
    def _unknown(_: Request, error: UnknownItem) -> Response:
        return problem_response(404, error.problem, error.remedy, kind="unknown-item")

    @app.exception_handler(DataError)
    def _data(_: Request, error: DataError) -> Response:
        return problem_response(422, error.problem, error.remedy, kind="data")

    @app.exception_handler(FolderUnreadable)
    def _unreadable(_: Request, error: FolderUnreadable) -> Response:
        return problem_response(503, error.problem, error.remedy, kind="folder-unreadable")

    @app.exception_handler(MicroscopeError)
    def _microscope(_: Request, error: MicroscopeError) -> Response:
        status = _MICROSCOPE.get(error.cause, 503)
        return problem_response(status, error.problem, error.remedy, kind=f"microscope:{error.cause}")

    @app.exception_handler(EngineRefusal)
    def _refusal(_: Request, error: EngineRefusal) -> Response:
        return problem_response(_REFUSALS.get(error.kind, 500), error.problem, error.remedy, kind=error.kind)

    @app.exception_handler(EngineAway)
    def _away(_: Request, error: EngineAway) -> Response:
        return problem_response(503, error.problem, error.remedy, kind="engine-away")

    @app.exception_handler(NotReady)
    def _not_ready(_: Request, error: NotReady) -> Response:
        return problem_response(503, error.problem, error.remedy, kind="not-ready")

    @app.exception_handler(StoreError)
    def _store(_: Request, error: StoreError) -> Response:
        return problem_response(503, error.problem, error.remedy, kind="store")

    @app.exception_handler(Exception)
    def _anything(_: Request, error: Exception) -> Response:
        detail = f"The service failed at this request ({type(error).__name__})."
        return problem_response(500, detail, "See the log of the service, and report it.", kind="internal")


def _allowed(request: Request) -> str:
    """The methods of a resource, for the header Allow: those of all routes of its address."""
    routes = request.app.routes
    found = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return ", ".join(["GET", "HEAD", *found[1:]] if found[:1] == ["GET"] else found)


def _other_kind(request: Request, errors: Sequence[Any]) -> str | None:
    """The Content-Type of a request whose body was not read because it is not said to be JSON."""
    kind = request.headers.get("content-type")
    is_json = kind is not None and kind.partition(";")[0].strip().lower() == "application/json"
    unread = any(isinstance(fault.get("input"), bytes) for fault in errors)
    return None if is_json or not unread else kind or ""


def _field_error(fault: dict[str, Any]) -> dict[str, Any]:
    value = None if fault["type"] == "missing" or isinstance(fault.get("input"), dict) else fault.get("input")
    if not isinstance(value, bool | int | float | None):
        value = str(value)[:200]
    rule = {"extra_forbidden": "there is no such field"}.get(fault["type"], fault["msg"])
    return {
        "field": ".".join(str(part) for part in fault["loc"]),
        "value": value,
        "rule": rule.removeprefix("Value error, "),
    }


def _sentence(error: dict[str, Any]) -> str:
    given = "" if error["value"] is None else f" is {error['value']!r}"
    return f"{error['field']}{given}: {error['rule']}."
