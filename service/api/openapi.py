"""The OpenAPI document of the API; all errors are application/problem+json."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.problems import MEDIA_TYPE, Problem
from service.api.roles import needed_role

__all__ = ["PROBLEMS", "install_description"]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    422: {"model": Problem, "description": "A value of the request breaks a rule."},
    "default": {"model": Problem, "description": "Any other error."},
}
"""Responses of every route that are problems."""


def install_description(app: FastAPI) -> None:
    """Describe the problems and the access key in the OpenAPI document of `app`."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def _describe(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, servers=app.servers
    )
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["x-role"] = needed_role(method.upper(), path)
            for status, response in operation["responses"].items():
                if not status.startswith("2"):
                    response["content"] = {MEDIA_TYPE: response["content"]["application/json"]}
    document.setdefault("components", {})["securitySchemes"] = {
        "accessKey": {"type": "http", "scheme": "bearer", "description": "A key whose role is at least x-role."}
    }
    document["security"] = [{}, {"accessKey": []}]
    return document
