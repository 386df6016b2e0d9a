"""Checks of every request: Host, Origin and access key.

Any web page can make a browser post to localhost, and a page whose name is
re-bound to 127.0.0.1 can even read the responses. So the service checks, on
loopback too, that the browser addresses this service (Host), and that a
mutation or a WebSocket comes from the service's own page (Origin). Programs
send no Origin and are not affected. Where an access key is set, every request
needs it, except the health check and the files of the page, which hold no
data.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.bodies import read_body
from service.api.problems import problem
from service.api.refusals import RefusalCounter

__all__ = ["AccessKey", "Guard"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_HEALTH = "/healthz"
"""Needs neither key nor known host name: the health check of a container has neither."""

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' {sockets}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Own bundles and own WebSockets only; styles inline, because charts and Swagger UI set them on their elements."""


class AccessKey:
    """The key that clients must show, or none.

    Parameters
    ----------
    key : str or None
        None: no key is needed (loopback only).
    """

    def __init__(self, key: str | None) -> None:
        self._key = None if key is None else key.encode()

    @property
    def is_set(self) -> bool:
        """Whether clients need a key."""
        return self._key is not None

    def fits(self, given: object) -> bool:
        """Whether `given` is the key; the time of the comparison does not depend on how much of it is right."""
        if self._key is None:
            return True
        return isinstance(given, str) and hmac.compare_digest(given.encode(errors="replace"), self._key)

    def fits_header(self, authorization: str | None) -> bool:
        """Whether an Authorization header holds the key."""
        scheme, _, given = (authorization or "").partition(" ")
        return self._key is None or (scheme.lower() == "bearer" and self.fits(given.strip()))


class Guard:
    """Checks Host, Origin and key of a request before the application runs, and adds security headers to each response.

    Bodies are read here, within limits of size and time. HEAD gets the response of GET without the content.

    Parameters
    ----------
    app : ASGI application
        The application that gets the accepted requests.
    key : AccessKey
        The key, or none. WebSockets show it in their first message.
    hosts : iterable of str
        Names, beside loopback, by which clients may know this service.
    public : iterable of str
        Paths that need no key: the files of the page and of /docs, which hold no data.
    refusals : RefusalCounter
        Counts the refused requests.
    """

    def __init__(
        self, app: ASGIApp, key: AccessKey, hosts: Iterable[str], public: Iterable[str], refusals: RefusalCounter
    ) -> None:
        self._app = app
        self._refusals = refusals
        self._key = key
        self._public = frozenset(public)
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if scope["type"] != "http":
            await (refusal or self._app)(scope, receive, send)
            return
        body = await read_body(headers, receive, wanted=refusal is None)
        if refusal is None and body.fault is not None:
            self._refusals.note("body", HTTPConnection(scope))
            refusal = body.fault
        send = _with_security_headers(send, headers.get("host", ""), close=not body.whole)
        receive = body.replayed(receive)
        if scope["method"] == "HEAD" and refusal is None:
            # The server itself sends no content in a response to HEAD; this stops the code that would make it.
            scope = {**scope, "method": "GET"}
            receive, send = _without_content(receive, send)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        path = scope["path"]
        if path == _HEALTH:
            return None
        host = headers.get("host", "")
        if not self._knows(host, scope.get("server")):
            self._refusals.note("host", HTTPConnection(scope))
            return problem(
                "host",
                f"Host is {host[:200]!r}, which is no name of this service.",
                "Use http://127.0.0.1 and the port, or add the name to the setting allowed_hosts.",
            )
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        origin = headers.get("origin")
        if changes and origin is not None and not _same_origin(origin, host):
            self._refusals.note("origin", HTTPConnection(scope))
            return problem(
                "origin",
                f"Origin is {origin[:200]!r}: another site's page asks for this.",
                "Use the service's own page, or a program that sends no Origin.",
            )
        needs_key = scope["type"] == "http" and path not in self._public
        if needs_key and not self._key.fits_header(headers.get("authorization")):
            if "authorization" in headers:
                self._refusals.note("key", HTTPConnection(scope))
            return problem(
                "access-key",
                "This service asks for its access key.",
                "Send the header Authorization: Bearer KEY, with the key of the setting access_key.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return None

    def _knows(self, host: str, server: tuple[str, int] | None) -> bool:
        name = _split(f"//{host}")[0]
        if name is None:
            return False
        if name == "localhost" or name.endswith(".localhost") or name in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # A name can be bound to our address, a literal address cannot: the one that the client used is ours.
        return address.is_loopback or (server is not None and name == server[0])


def _split(url: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None, None


def _same_origin(origin: str, host: str) -> bool:
    scheme = origin.partition("://")[0]
    there, here = _split(origin), _split(f"{scheme}://{host}")
    return scheme in {"http", "https"} and there[0] is not None and there == here


def _without_content(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """End a response after its head: the code that makes the content receives a disconnect."""
    sent = asyncio.Event()

    async def listen() -> Message:
        if not sent.is_set():
            waiting = {asyncio.ensure_future(receive()), asyncio.ensure_future(sent.wait())}
            done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            for task in done:
                if isinstance(message := task.result(), dict):
                    return message
        return {"type": "http.disconnect"}

    async def send_head(message: Message) -> None:
        if sent.is_set():
            return
        await send(message)
        if message["type"] == "http.response.start":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            sent.set()

    return listen, send_head


def _with_security_headers(send: Send, host: str, *, close: bool) -> Send:
    """Add the headers of every response; `close` ends the connection after it."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers["X-Frame-Options"] = "DENY"
            headers["Referrer-Policy"] = "no-referrer"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
            headers["Content-Security-Policy"] = _PAGE_POLICY.format(sockets=_sockets(host))
            headers.setdefault("Cache-Control", "no-store")
            if close:
                headers["Connection"] = "close"
        await send(message)

    return add


def _sockets(host: str) -> str:
    """WebSocket addresses of the same host; some browsers do not count them as 'self'."""
    name, _ = _split(f"//{host}")
    return f"ws://{host} wss://{host}" if name and all(c.isalnum() or c in ".:-[]" for c in host) else ""
