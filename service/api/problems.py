"""Errors as application/problem+json (RFC 9457), with one table from kinds of error to HTTP statuses.

Every problem states what happened (`detail`) and what the user can do about it
(`remedy`). No route chooses a status: it lets the errors of the parts that it
calls pass, and the kind of the error decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from bathyscope_errors import BathyscopeError
from service.api.uploads import UPLOADS
from service.store.values import dump_json

__all__ = ["MEDIA_TYPE", "STATUSES", "NotReady", "Problem", "http_problem", "install_problems", "problem"]

MEDIA_TYPE = "application/problem+json"

_RETRY_AFTER_S = "2"
"""The supervisor restarts the engine within a few seconds."""

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
    429: "Too many requests",
    500: "The service failed",
    503: "Not available now",
    507: "There is no room",
}

_REMEDIES = {
    400: "Send a JSON body with Content-Type: application/json.",
    404: "See /docs for the resources of this service.",
    405: "See /docs for the methods of this resource; the Allow header names them.",
    406: "Ask for one of these media types.",
    415: "Send a body that this resource takes, with its Content-Type.",
}
_REMEDY = "See /docs, and the log of the service."

STATUSES = {
    # The request.
    "access-key": 401,
    "host": 403,
    "origin": 403,
    "role": 403,
    "rate": 429,
    "unknown-item": 404,
    "validation": 422,
    "data": 422,
    "upload": 422,
    "upload-busy": 429,
    "upload-size": 413,
    "upload-slow": 408,
    "upload-space": 507,
    # The service.
    "folder-unreadable": 503,
    "store": 503,
    "not-ready": 503,
    "engine-away": 503,
    "remote-away": 503,
    # The engine's refusals.
    "conflict": 409,
    "not_found": 404,
    "invalid": 422,
    "unavailable": 503,
    "internal": 500,
    # The microscope: some causes are errors of the request or pass by themselves, the others mean that it is away.
    "microscope": 503,
    "microscope:busy": 409,
    "microscope:stage_limit": 422,
}
"""Kind of error -> HTTP status. A kind with a colon that has no row of its own has the status of the part before it."""


class NotReady(BathyscopeError):
    """The instrument cannot track now: the engine or the microscope is away, or the database does not respond."""

    kind = "not-ready"


class FieldError(BaseModel):
    """One value of the request that breaks a rule."""

    field: str = Field(description="Place of the value: query.limit, body.record, path.track.")
    value: Any = Field(description="The value; null when it was missing.")
    rule: str = Field(description="The rule that it breaks.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Name of the kind of problem, as a URN.")
    title: str = Field(description="The kind of problem, in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened: the value and the rule that it breaks.")
    remedy: str = Field(description="What to do about it.")
    errors: list[FieldError] | None = Field(None, description="The values that break a rule.")


def problem(
    kind: str,
    detail: str,
    remedy: str,
    *,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One problem as a response, with the status of its kind."""
    status = STATUSES.get(kind) or STATUSES.get(kind.partition(":")[0], 500)
    return _response(status, kind, detail, remedy, errors, headers)


def http_problem(status: int, detail: str, remedy: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem of HTTP itself, which has a status and no kind of its own."""
    return _response(status, _title(status).lower().replace(" ", "-"), detail, remedy, None, headers)


def _response(
    status: int,
    kind: str,
    detail: str,
    remedy: str,
    errors: list[dict[str, Any]] | None,
    headers: Mapping[str, str] | None,
) -> Response:
    body: dict[str, Any] = {
        "type": f"urn:bathyscope:problem:{kind}",
        "title": _title(status),
        "status": status,
        "detail": detail,
        "remedy": remedy,
    }
    if errors is not None:
        body["errors"] = errors
    # Also where no middleware adds it: a browser must not take the response to a failure for a page.
    headers = {"X-Content-Type-Options": "nosniff", **(headers or {})}
    if status == 503:
        headers.setdefault("Retry-After", _RETRY_AFTER_S)
    return Response(dump_json(body), status, headers, MEDIA_TYPE)


def _title(status: int) -> str:
    return _TITLES.get(status, "The request failed")


def install_problems(app: FastAPI) -> None:
    """Make `app` send every exception as a problem."""

    @app.exception_handler(RequestValidationError)
    def _validation(request: Request, error: RequestValidationError) -> Response:
        media_type = _other_media_type(request, error.errors())
        if media_type is not None:
            given = f"is {media_type[:100]!r}" if media_type else "is missing"
            taken = " and ".join(filter(None, ("application/json", UPLOADS.get(request.scope["path"]))))
            return http_problem(415, f"Content-Type {given}.", f"Send a body of {taken}, with its Content-Type.")
        errors = [_field_error(fault) for fault in error.errors()]
        return problem("validation", _sentence(errors[0]), "Correct it; /docs states every rule.", errors=errors)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        detail = f"{request.method} {request.url.path[:200]}: {error.detail}."
        headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
        return http_problem(error.status_code, detail, _REMEDIES.get(error.status_code, _REMEDY), headers)

    @app.exception_handler(BathyscopeError)
    def _known(_: Request, error: BathyscopeError) -> Response:
        return problem(error.kind, error.problem, error.remedy)

    @app.exception_handler(Exception)
    def _unforeseen(_: Request, error: Exception) -> Response:
        detail = f"The service failed at this request ({type(error).__name__})."
        return problem("internal", detail, "See the log of the service, and report it.")


def _allowed(request: Request) -> str:
    """The methods of a resource, for the header Allow, as the description of the API has them.

    A resource with a name of its own (`/models/active`) has not those of the resources beside it (`/models/{model}`).
    """
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    described = [
        (template, operations)
        for template, operations in request.app.openapi()["paths"].items()
        if re.fullmatch(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(template)), path)
    ]
    _, operations = min(described, key=lambda each: each[0].count("{"), default=("", {"get": None}))
    found = [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if method.lower() in operations]
    return ", ".join(["GET", "HEAD", *found[1:]] if found[:1] == ["GET"] else found)


def _other_media_type(request: Request, errors: Sequence[Any]) -> str | None:
    """The Content-Type of a request whose body was not read because it is not JSON; "" when it is not stated."""
    media_type = request.headers.get("content-type")
    is_json = media_type is not None and media_type.partition(";")[0].strip().lower() == "application/json"
    unread = any(isinstance(fault.get("input"), bytes) for fault in errors)
    return None if is_json or not unread else media_type or ""


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
