"""The bodies of requests: read whole before anything else sees them, within bounds of size and time.

A server that reads on while a client sends on can be kept busy for ever, by a
body without end or by one that comes at a byte a minute. The bodies of this
service are short, so they are read first. What is too long or too slow is
answered and its connection closed, also where the request is refused for
another reason.
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
"""A run's notes are the longest thing that anyone sends."""

_READ_ON_BYTES = 1024 * 1024
"""What of a body that is too long is read and thrown away, so that its sender gets to read the answer."""

BODY_TIMEOUT_S = 10.0
"""64 KiB in this time are 52 kbit/s, less than any network gives."""


@dataclass(frozen=True, slots=True)
class Body:
    """What came of a request's body.

    Attributes
    ----------
    content : what was sent; None when there is no body, or it was not taken
    fault : why it was not taken: the answer to the request
    whole : whether all of it has been read; else the connection is of no more use
    """

    content: bytes | None = None
    fault: Response | None = None
    whole: bool = True

    def replayed(self, receive: Receive) -> Receive:
        """Give the content to whoever asks, then whatever else `receive` gives."""
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
        Whether the request will be looked at; a body that waits for leave to be sent is not asked for otherwise.
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
