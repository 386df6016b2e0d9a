"""Reference of the HTTP interface, generated from its OpenAPI description."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from service.api.description_file import api_description
from tools.site.value_types import number_text, table_row

__all__ = ["http_page"]

_HEAD = """# HTTP

Every request that the service answers, generated from its OpenAPI description. A running service
shows the same at `/docs`, and the description itself at `/openapi.json`. The [API guide](../api-guide.md)
has examples, the errors, and the WebSockets, which OpenAPI cannot describe.

*Role* is the least role of the access key, where keys are in use: view, operate or administer.
"""

_NAMES = {"integer": "whole number", "string": "text", "boolean": "true or false", "null": "null"}
_METHODS = ("get", "post", "put", "patch", "delete")


def http_page(description: dict[str, Any] | None = None) -> str:
    """Markdown: all requests by path, with parameters, body and responses.

    Parameters
    ----------
    description : dict or None
        An OpenAPI document; None: that of the service.
    """
    document = api_description() if description is None else description
    schemas = document["components"]["schemas"]
    groups: dict[str, list[str]] = defaultdict(list)
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                groups[_group(path)] += _operation(method, path, operations[method])
    lines = [_HEAD]
    for group, rows in groups.items():
        lines += [f"## {group}", "", *rows]
    lines += ["## Objects", "", "Bodies of requests and responses.", ""]
    for name, schema in sorted(schemas.items()):
        lines += _object(name, schema)
    return "\n".join(lines)


def _group(path: str) -> str:
    """The resource of a path: "runs" of /api/v1/runs/{id}."""
    words = [word for word in path.split("/") if word and not word.startswith("{")]
    return words[2] if words[:2] == ["api", "v1"] and len(words) > 2 else "health"


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    lines = [f"### {method.upper()} {path}", ""]
    text = operation.get("description") or operation.get("summary") or ""
    lines += [f"{' '.join(text.split())} Role: {operation.get('x-role') or 'none'}.", ""]
    parameters = operation.get("parameters", [])
    if parameters:
        lines += ["| parameter | in | value | meaning |", "|---|---|---|---|"]
        for each in parameters:
            name = f"`{each['name']}`" + (", required" if each.get("required") and each["in"] != "path" else "")
            lines.append(table_row(name, each["in"], _type(each["schema"]), each.get("description", "")))
        lines.append("")
    body = operation.get("requestBody", {}).get("content", {})
    for kind, content in body.items():
        lines += [f"Body, `{kind}`: {_type(content.get('schema', {}))}", ""]
    rows = [
        table_row(status, _meaning(response), _contents(response))
        for status, response in operation["responses"].items()
        if status.startswith("2")
    ]
    failures = [status for status in operation["responses"] if not status.startswith("2")]
    lines += ["| status | meaning | content |", "|---|---|---|", *rows]
    if failures:
        lines.append(table_row(", ".join(failures), "refused or failed", "a problem: what is wrong, and what to do"))
    return [*lines, ""]


def _contents(response: dict[str, Any]) -> str:
    """Media types of a response, with what they hold."""
    found = response.get("content", {}).items()
    return ", ".join(f"`{kind}` {_type(each.get('schema', {}))}".strip() for kind, each in found)


def _meaning(response: dict[str, Any]) -> str:
    """The description of a response, where somebody wrote one."""
    text: str = response["description"]
    return "done" if text == "Successful Response" else text


def _object(name: str, schema: dict[str, Any]) -> list[str]:
    lines = [f"### {name}", ""]
    if schema.get("description"):
        lines += [" ".join(schema["description"].split()), ""]
    if "properties" in schema:
        needed = schema.get("required", [])
        lines += ["| property | value | meaning |", "|---|---|---|"]
        for key, each in schema["properties"].items():
            title = f"`{key}`" + (", required" if key in needed else "")
            lines.append(table_row(title, _type(each), each.get("description", "")))
    else:
        lines.append(_type(schema))
    return [*lines, ""]


def _type(schema: dict[str, Any]) -> str:
    """A schema in one line, with a link to the object that it names."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(each) for each in schema[key]))
    if "allOf" in schema:
        return " and ".join(_type(each) for each in schema["allOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    kind: str = schema.get("type", "anything")
    if kind == "array":
        if "prefixItems" in schema:
            return "list of " + ", ".join(_type(each) for each in schema["prefixItems"])
        return f"list of {_type(schema.get('items', {}))}" + _bounds(schema)
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return _NAMES.get(kind, kind) + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "≥ {}",
        "exclusiveMinimum": "> {}",
        "maximum": "≤ {}",
        "exclusiveMaximum": "< {}",
        "maxLength": "at most {} characters",
        "maxItems": "at most {} entries",
    }
    return "".join(f", {text.format(number_text(schema[key]))}" for key, text in words.items() if key in schema)
