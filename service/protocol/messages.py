"""Requests and replies between clients and engine, as MessagePack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgpack

from service.protocol.errors import EngineRefusal

__all__ = ["pack", "pack_refusal", "result_of"]


def pack(values: Mapping[str, Any]) -> bytes:
    """MessagePack; a character that UTF-8 cannot hold (undecoded bytes of a file name) is written as its number."""
    return cast(bytes, msgpack.packb(values, unicode_errors="backslashreplace"))


def pack_refusal(request: Any, refusal: EngineRefusal) -> bytes:
    """The reply to a request that is refused; `request` is the request's id."""
    error = {"kind": refusal.kind, "problem": refusal.problem, "remedy": refusal.remedy}
    return pack({"id": request, "error": error})


def result_of(reply: Mapping[str, Any]) -> Any:
    """The result in a reply.

    Raises
    ------
    EngineRefusal
        When the reply is a refusal.
    """
    if error := reply.get("error"):
        raise EngineRefusal(error["kind"], error["problem"], error["remedy"])
    return reply["result"]
