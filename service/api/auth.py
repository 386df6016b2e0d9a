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

import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import problem_response

__all__ = ["AccessKey", "Guard"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_HEALTH = "/healthz"
"""Open to everybody under any name: a container's health check knows neither."""

_LARGEST_BODY_BYTES = 64 * 1024
"""A run's notes are the longest thing that anyone sends."""

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


class Guard:
    """Checks Host, Origin and key before anything else sees a request, and adds the security headers to every answer.

    Bodies are cut off beyond 64 KiB.

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
    """

    def __init__(self, app: ASGIApp, key: AccessKey, hosts: Iterable[str], public: Iterable[str]) -> None:
        self._app = app
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
        if scope["type"] == "http":
            receive, send = _bounded(receive), _with_security_headers(send, headers.get("host", ""))
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        path = scope["path"]
        if path == _HEALTH:
            return None
        host = headers.get("host", "")
        if not self._knows(host, scope.get("server")):
            return problem_response(
                403,
                f"Host is {host[:200]!r}, which is no name of this service.",
                "Use http://127.0.0.1 and the port, or add the name to the setting allowed_hosts.",
                kind="host",
            )
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        origin = headers.get("origin")
        if changes and origin is not None and not _same_origin(origin, host):
            return problem_response(
                403,
                f"Origin is {origin[:200]!r}: another site's page asks for this.",
                "Use the service's own page, or a program that sends no Origin.",
                kind="origin",
            )
        needs_key = scope["type"] == "http" and path not in self._public
        if needs_key and not self._key.fits_header(headers.get("authorization")):
            return problem_response(
                401,
                "This service asks for its access key.",
                "Send the header Authorization: Bearer KEY, with the key of the setting access_key.",
                kind="access-key",
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


def _bounded(receive: Receive) -> Receive:
    """Refuse a body that is too large, whatever length it states, before it is in memory."""
    taken = 0

    async def take() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > _LARGEST_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {_LARGEST_BODY_BYTES} bytes")
        return message

    return take


def _with_security_headers(send: Send, host: str) -> Send:
    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers["X-Frame-Options"] = "DENY"
            headers["Referrer-Policy"] = "no-referrer"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
            headers["Content-Security-Policy"] = _PAGE_POLICY.format(sockets=_sockets(host))
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return add


def _sockets(host: str) -> str:
    """WebSockets to the same host; not every browser takes them as 'self'."""
    name, _ = _split(f"//{host}")
    return f"ws://{host} wss://{host}" if name and all(c.isalnum() or c in ".:-[]" for c in host) else ""
