"""The path under which a reverse proxy shows the service, such as /scope.

A proxy may pass the prefix on or remove it; both work. The page uses relative
addresses, so only the addresses in headers have to be given the prefix.
"""

from __future__ import annotations

import re

from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["PathPrefix"]

_LINK = re.compile(r"<(/[^>]*)>")


class PathPrefix:
    """Removes the prefix from requests, and adds it to the addresses in the headers of responses.

    Parameters
    ----------
    app : ASGI application
    prefix : str
        Begins with a slash, and does not end with one.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on without the prefix."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path == self._prefix and scope["type"] == "http":
            # Relative addresses of the page begin at the last slash.
            await RedirectResponse(f"{self._prefix}/", status_code=308)(scope, receive, send)
            return
        if path.startswith(f"{self._prefix}/"):
            scope = {**scope, "path": path[len(self._prefix) :]}

        async def prefixed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                location, link = headers.get("location"), headers.get("link")
                if location is not None and location.startswith("/"):
                    headers["Location"] = self._prefix + location
                if link is not None:
                    headers["Link"] = _LINK.sub(rf"<{self._prefix}\1>", link)
            await send(message)

        await self._app(scope, receive, prefixed)
