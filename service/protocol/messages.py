"""Requests and replies between clients and engine, as MessagePack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgpack

from service.protocol.errors import EngineRefusal

__all__ = ["pack", "pack_refusal", "result_of"]


def pack_refusal(request: Any, kind: str, problem: str, remedy: str) -> bytes:
    """The reply to a request that failed."""
    error = {"kind": kind, "problem": problem, "remedy": remedy}
    return pack({"id": request, "error": error})


def pack(values: Mapping[str, Any]) -> bytes:
    """MessagePack. A letter that has no place in UTF-8 (undecoded bytes of a file name) is written as its number."""
    return cast(bytes, msgpack.packb(values, unicode_errors="backslashreplace"))


def result_of(reply: dict[str, Any]) -> Any:
    """The result in a reply.

    Raises
    ------
    EngineRefusal
        When the reply is a refusal.
    """
    if error := reply.get("error"):
        raise EngineRefusal(error["kind"], error["problem"], error["remedy"])
    return reply["result"]
