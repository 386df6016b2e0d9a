"""Checks of every request: Host, Origin, access key, role and rate.

Any web page can make a browser post to localhost, and a page whose name is
re-bound to 127.0.0.1 can even read the responses. So the service checks, on
loopback too, that the browser addresses this service (Host), and that a
mutation or a WebSocket comes from the service's own page (Origin). Programs
send no Origin and are not affected. Where there are access keys, every request
needs one whose role allows it, except the health check and the files of the
page, which hold no data. Each request that changes something leaves a line in
the audit.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.access import Access, Identity
from service.api.audit import AuditTrail
from service.api.bodies import Body, read_body
from service.api.problems import problem
from service.api.rates import RateLimit
from service.api.refusals import RefusalCounter
from service.api.roles import SAFE_METHODS, STOP, allows, needed_role
from service.api.uploads import is_upload
from service.settings import is_loopback

__all__ = ["Guard", "sender"]

_PROGRAM_HEADER = "Bathyscope-Program"
"""Header with which a program states what it is, for the audit; nothing is allowed or refused by it."""

_LONGEST_PROGRAM = 100

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_HEALTH = "/healthz"
"""Needs neither key nor known host name: the health check of a container has neither."""

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' {sockets}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Own bundles and own WebSockets only; styles inline, because charts and Swagger UI set them on their elements."""


_WRONG_KEYS_PER_S, _WRONG_KEYS_AT_ONCE = 1 / 6, 20
"""Wrong keys of one client: a page or program with an old key tries a few times, a search tries without end."""

_BURST_S = 4.0
"""Requests that a client may send at once, in seconds of its rate: a page loads all its files in a moment."""


class Guard:
    """Checks a request before the application runs, and adds security headers to each response.

    Bodies are read here, within limits of size and time; only files are taken by their routes. HEAD gets the response
    of GET without the content.

    Parameters
    ----------
    app : ASGI application
        The application that gets the accepted requests.
    access : Access
        The keys. WebSockets show theirs in the first message.
    hosts : iterable of str
        Names, beside loopback, by which clients may know this service.
    public : iterable of str
        Paths that need no key: the files of the page and of /docs, which hold no data.
    refusals : RefusalCounter
        Counts the refused requests.
    audit : AuditTrail or None
        Gets the requests that change something; None where none does.
    requests_per_s : float
        Requests a second of one client on another machine.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        hosts: Iterable[str],
        public: Iterable[str],
        refusals: RefusalCounter,
        audit: AuditTrail | None,
        requests_per_s: float,
    ) -> None:
        self._app = app
        self._refusals = refusals
        self._access = access
        self._audit = audit
        self._public = frozenset(public)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._rate = RateLimit(requests_per_s, _BURST_S * requests_per_s)
        self._wrong_keys = RateLimit(_WRONG_KEYS_PER_S, _WRONG_KEYS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        identity = self._access.identify_header(headers.get("authorization"))
        refusal = self._refusal(scope, headers, identity)
        if scope["type"] != "http":
            await (refusal or self._app)(scope, receive, send)
            return
        if refusal is None and is_upload(scope, headers):
            body = Body(whole=False)  # the route takes it; what it leaves of it is not waited for
        else:
            body = await read_body(headers, receive, wanted=refusal is None)
        if refusal is None and body.fault is not None:
            self._refusals.note("body", HTTPConnection(scope))
            refusal = body.fault
        send = _with_security_headers(send, headers.get("host", ""), close=not body.whole)
        receive = body.replayed(receive)
        method, path = scope["method"], scope["path"]
        if method == "HEAD" and refusal is None:
            # The server itself sends no content in a response to HEAD; this stops the code that would make it.
            scope = {**scope, "method": "GET"}
            receive, send = _without_content(receive, send)
        if method in SAFE_METHODS or identity is None or self._audit is None:
            await (refusal or self._app)(scope, receive, send)
            return
        outcome = _Outcome(send)
        try:
            await (refusal or self._app)(scope, receive, outcome.send)
        finally:
            await self._audit.note(identity, sender(scope, headers), method, path, body.content, outcome.status)

    def _refusal(self, scope: Scope, headers: Headers, identity: Identity | None) -> Response | None:
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
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        origin = headers.get("origin")
        if changes and origin is not None and not _same_origin(origin, host):
            self._refusals.note("origin", HTTPConnection(scope))
            return problem(
                "origin",
                f"Origin is {origin[:200]!r}: another site's page asks for this.",
                "Use the service's own page, or a program that sends no Origin.",
            )
        if path != STOP and (too_many := self._too_many(scope)):
            return too_many
        if scope["type"] != "http" or path in self._public:
            return None
        return self._key_refusal(scope, headers, identity)

    def _key_refusal(self, scope: Scope, headers: Headers, identity: Identity | None) -> Response | None:
        """Why the key of a request does not allow it; None when it does."""
        if identity is None:
            if "authorization" in headers:
                self._wrong_keys.use(_client(scope))
                self._refusals.note("key", HTTPConnection(scope))
            return problem(
                "access-key",
                "This service asks for its access key.",
                "Send the header Authorization: Bearer KEY, with a key of bathyscope key or of the setting access_key.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        needed = needed_role(scope["method"], scope["path"])
        if allows(identity.role, needed):
            return None
        self._refusals.note("role", HTTPConnection(scope))
        return problem(
            "role",
            f"{scope['method']} {scope['path'][:200]} needs the role {needed}; the key {identity.name!r} has the role "
            f"{identity.role}.",
            f"Ask for a key with that role: bathyscope key add NAME --role {needed}.",
        )

    def _too_many(self, scope: Scope) -> Response | None:
        """The refusal of a client that sends too many requests or wrong keys; programs of this machine may."""
        client = _client(scope)
        if is_loopback(client):
            return None
        if wait_s := self._wrong_keys.wait_s(client):
            detail = f"{client} has sent {_WRONG_KEYS_AT_ONCE} wrong access keys in a short time."
            remedy = f"Wait {wait_s} s, and send the right key."
        elif wait_s := self._rate.wait_s(client):
            detail = f"{client} sends more requests than requests_per_s allows."
            remedy = "Send fewer, use the WebSockets for live data, or raise the setting requests_per_s."
        else:
            self._rate.use(client)
            return None
        self._refusals.note("rate", HTTPConnection(scope))
        return problem("rate", detail, remedy, headers={"Retry-After": str(wait_s)})

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


class _Outcome:
    """Sends a response, and keeps its status; 500 until there is one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 500

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _client(scope: Scope) -> str:
    """Address of the client; that of the proxy when it is not trusted."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def sender(scope: Scope, headers: Headers) -> str:
    """Address of the client for the audit, and the program that the request names."""
    named = headers.get(_PROGRAM_HEADER, "")
    program = "".join(letter for letter in named if letter.isprintable())[:_LONGEST_PROGRAM].strip()
    return f"{_client(scope)} ({program})" if program else _client(scope)


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
