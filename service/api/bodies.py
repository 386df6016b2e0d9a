"""The bodies of requests: read whole before the application runs, within limits of size and time.

A client could keep a server busy for ever with a body without end, or with one
that comes at a byte a minute. The bodies of this service are short, so they
are read first. A body that is too long or too slow gets an error, and its
connection is closed, also where the request is refused for another reason.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive

from service.api.problems import http_problem

__all__ = ["LONGEST_BODY_BYTES", "Body", "read_body"]

LONGEST_BODY_BYTES = 64 * 1024
"""The notes of a run are the longest text of a request."""

_READ_ON_BYTES = 1024 * 1024
"""Bytes of a body that is too long which are read and dropped, so that its sender reads the response."""

BODY_TIMEOUT_S = 10.0
"""64 KiB in this time are 52 kbit/s, slower than any network in use."""


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request, as far as it was read.

    Attributes
    ----------
    content : None when there is no body, or it was not accepted
    fault : the response to the request when its body was not accepted
    whole : whether all of it was read; otherwise the connection must be closed
    """

    content: bytes | None = None
    fault: Response | None = None
    whole: bool = True

    def replayed(self, receive: Receive) -> Receive:
        """A channel that gives the content first, then the messages of `receive`."""
        if self.content is None:
            return receive
        first: list[Message] = [{"type": "http.request", "body": self.content, "more_body": False}]

        async def replay() -> Message:
            return first.pop() if first else await receive()

        return replay


async def read_body(headers: Headers, receive: Receive, *, wanted: bool) -> Body:
    """Read the body of a request.

    Parameters
    ----------
    headers : Headers
        Of the request.
    receive : callable
        The ASGI channel.
    wanted : bool
        Whether the request is accepted; if not, a client that waits for "100 Continue" does not get it.
    """
    if "transfer-encoding" not in headers and headers.get("content-length", "0") == "0":
        return Body()
    if not wanted and "expect" in headers:
        return Body(whole=False)
    content, taken = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":  # the client has left
                    return Body(whole=False)
                taken += len(message.get("body", b""))
                if taken <= LONGEST_BODY_BYTES:
                    content += message.get("body", b"")
                if not message.get("more_body", False):
                    break
                if taken > _READ_ON_BYTES:
                    return Body(fault=_too_long(), whole=False)
    except TimeoutError:
        return Body(fault=_too_slow(), whole=False)
    return Body(fault=_too_long()) if taken > LONGEST_BODY_BYTES else Body(bytes(content))


def _too_long() -> Response:
    detail = f"The body is larger than {LONGEST_BODY_BYTES} bytes."
    return http_problem(413, detail, "Send less; the bodies of this service are short.")


def _too_slow() -> Response:
    detail = f"The body was not there within {BODY_TIMEOUT_S:g} s."
    return http_problem(408, detail, "Send the whole body at once, with its right Content-Length.")
