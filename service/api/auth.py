"""Who may talk to the service.

Any web page can make a browser post to localhost, and a page whose name is
re-bound to 127.0.0.1 can even read the answers. So the service checks, on
loopback too, that the browser believes to talk to this service (Host), and
that a mutation or a WebSocket comes from the service's own page (Origin).
Programs send no Origin and are not affected. Where an access key is set, it
is asked for everything but the health check and the page itself, which has
no data and asks for the key.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections import Counter
from collections.abc import Iterable
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.bodies import read_body
from service.api.problems import problem
from service.api.repeats import Repeats

__all__ = ["AccessKey", "Doorkeeper", "Guard"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_HEALTH = "/healthz"
"""Open to everybody under any name: a container's health check knows neither."""

_log = structlog.get_logger(__name__)

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
        None lets everybody in (loopback only).
    """

    def __init__(self, key: str | None) -> None:
        self._key = None if key is None else key.encode()

    @property
    def is_set(self) -> bool:
        """Whether a key is asked for."""
        return self._key is not None

    def fits(self, given: object) -> bool:
        """Whether `given` is the key, in a time that does not tell how much of it is right."""
        if self._key is None:
            return True
        return isinstance(given, str) and hmac.compare_digest(given.encode(errors="replace"), self._key)

    def fits_header(self, authorization: str | None) -> bool:
        """Whether an Authorization header bears the key."""
        scheme, _, given = (authorization or "").partition(" ")
        return self._key is None or (scheme.lower() == "bearer" and self.fits(given.strip()))


class Doorkeeper:
    """Counts who was refused and why, and writes wrong keys to the log: each address once a minute, never the key.

    Attributes
    ----------
    refused : Counter
        Requests and WebSockets by the reason of their refusal.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter(dict.fromkeys(("host", "origin", "key", "body"), 0))
        self._repeats = Repeats()

    def note(self, reason: str, connection: HTTPConnection) -> None:
        """Count one refusal; `reason` is ``"host"``, ``"origin"``, ``"key"`` or ``"body"``."""
        self.refused[reason] += 1
        if reason != "key":
            return
        client = connection.client.host if connection.client else "unknown"
        held_back = self._repeats.held_back(client)
        if held_back is not None:
            _log.warning("wrong_key", client=client, path=connection.scope["path"][:100], not_logged=held_back)


class Guard:
    """Checks Host, Origin and key before anything else sees a request, and adds the security headers to every answer.

    Bodies are read here, within bounds of size and time. HEAD is answered as GET is, without the content.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    key : AccessKey
        The key, or none. WebSockets show it in their first message.
    hosts : iterable of str
        Names, beside loopback, by which clients may know this service.
    public : iterable of str
        Paths that need no key: the files of the page and of /docs, which tell nothing about the sample.
    doorkeeper : Doorkeeper
        Is told of refusals.
    """

    def __init__(
        self, app: ASGIApp, key: AccessKey, hosts: Iterable[str], public: Iterable[str], doorkeeper: Doorkeeper
    ) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._key = key
        self._public = frozenset(public)
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
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
            self._doorkeeper.note("body", HTTPConnection(scope))
            refusal = body.fault
        send = _with_security_headers(send, headers.get("host", ""), close=not body.whole)
        receive = body.replayed(receive)
        if scope["method"] == "HEAD" and refusal is None:
            # The server itself sends no content in an answer to HEAD; this ends what would make it.
            scope = {**scope, "method": "GET"}
            receive, send = _without_content(receive, send)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        path = scope["path"]
        if path == _HEALTH:
            return None
        host = headers.get("host", "")
        if not self._knows(host, scope.get("server")):
            self._doorkeeper.note("host", HTTPConnection(scope))
            return problem(
                "host",
                f"Host is {host[:200]!r}, which is no name of this service.",
                "Use http://127.0.0.1 and the port, or add the name to the setting allowed_hosts.",
            )
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        origin = headers.get("origin")
        if changes and origin is not None and not _same_origin(origin, host):
            self._doorkeeper.note("origin", HTTPConnection(scope))
            return problem(
                "origin",
                f"Origin is {origin[:200]!r}: another site's page asks for this.",
                "Use the service's own page, or a program that sends no Origin.",
            )
        needs_key = scope["type"] == "http" and path not in self._public
        if needs_key and not self._key.fits_header(headers.get("authorization")):
            if "authorization" in headers:
                self._doorkeeper.note("key", HTTPConnection(scope))
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
        # A name can be bound to our address, a literal address cannot: the one that was dialled is ours.
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
    """End an answer after its head: whoever makes the content is told that the client has left."""
    answered = asyncio.Event()

    async def listen() -> Message:
        if not answered.is_set():
            waiting = {asyncio.ensure_future(receive()), asyncio.ensure_future(answered.wait())}
            done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            for task in done:
                if isinstance(message := task.result(), dict):
                    return message
        return {"type": "http.disconnect"}

    async def answer(message: Message) -> None:
        if answered.is_set():
            return
        await send(message)
        if message["type"] == "http.response.start":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            answered.set()

    return listen, answer


def _with_security_headers(send: Send, host: str, *, close: bool) -> Send:
    """Add the headers of every answer; `close` ends the connection after it."""

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
    """WebSockets to the same host; not every browser takes them as 'self'."""
    name, _ = _split(f"//{host}")
    return f"ws://{host} wss://{host}" if name and all(c.isalnum() or c in ".:-[]" for c in host) else ""
