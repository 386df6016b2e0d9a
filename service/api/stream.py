"""The WebSockets: live tracks, newest camera frame, and the feed of state and events.

Tracks and preview are sent exactly as the engine encoded them. A client that
receives nothing for `SEND_TIMEOUT_S` is disconnected, so that a sleeping
laptop holds no memory.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from service.api.access import Access, Identity
from service.api.dependencies import LiveViews
from service.api.live import FEED, PREVIEW, STREAM, Live
from service.api.outbox import Outbox
from service.api.problems import http_problem

__all__ = ["KEY_REFUSED", "SEND_NOW", "admitted", "router", "serve_view"]

SEND_NOW = "bathyscope.send_now"
"""ASGI extension of our server: sends a binary message in the calling task, or returns False when it cannot."""

SEND_TIMEOUT_S = 5.0
"""A client on a bad network recovers within this time; a page that sleeps does not."""

KEY_TIMEOUT_S = 5.0
"""The page sends its key as soon as the socket opens."""

MOST_NEWCOMERS = 64
"""WebSockets that have not shown their key yet; a page opens three."""

KEY_REFUSED = 4401
"""Close code: the first message did not hold the access key (4000 + the HTTP status)."""

_TOO_SLOW = 1013
"""Close code "try again later": the client received nothing for too long."""

router = APIRouter(prefix="/api/v1")


@router.websocket("/stream")
async def stream(socket: WebSocket, live: LiveViews) -> None:
    """Live tracks: each message is the full state of all live tracks."""
    await serve_view(socket, live, STREAM)


@router.websocket("/preview")
async def preview(socket: WebSocket, live: LiveViews) -> None:
    """The newest camera frame, scaled to 8 bits."""
    await serve_view(socket, live, PREVIEW)


@router.websocket("/feed")
async def feed(socket: WebSocket, live: LiveViews) -> None:
    """State (about 4 a second) and events as JSON text."""
    await serve_view(socket, live, FEED)


async def serve_view(socket: WebSocket, live: Live, view: str) -> None:
    """Send a view to a client until it leaves."""
    identity, key = await admitted(socket, live)
    if identity is None:
        return
    access: Access = socket.app.state.access
    with live.watch(view) as outbox:
        held_up = await _send_until_gone(socket, outbox, lambda: access.identify(key) is not None)
    if held_up:
        live.disconnected[view] += 1
        await _disconnect(socket, _TOO_SLOW, "This client took nothing for too long.")
    elif access.identify(key) is None:
        await _disconnect(socket, KEY_REFUSED, "The access key was revoked.")


async def _send_until_gone(socket: WebSocket, outbox: Outbox, is_welcome: Callable[[], bool]) -> bool:
    """Send until the client leaves or its key is revoked (False), or it has received nothing for too long (True)."""
    tasks = [asyncio.create_task(_send(socket, outbox)), asyncio.create_task(_receive_until_gone(socket))]
    outbox.send_now = socket.scope.get("extensions", {}).get(SEND_NOW)
    try:
        # One check a second is much cheaper than a time-out for every message.
        while outbox.held_up_s < SEND_TIMEOUT_S and is_welcome():
            done, _ = await asyncio.wait(tasks, timeout=SEND_TIMEOUT_S / 5, return_when=asyncio.FIRST_COMPLETED)
            if done:
                break
        held_up = not any(task.done() for task in tasks) and is_welcome()
    finally:
        outbox.send_now = None
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
            raise outcome
    return held_up


async def admitted(socket: WebSocket, live: Live) -> tuple[Identity | None, object]:
    """Accept a WebSocket and check its key where one is needed; whose it is, None when it is refused, and the key."""
    access: Access = socket.app.state.access
    if not access.is_needed:
        await socket.accept()
        return access.identify(None), None
    if live.newcomers >= MOST_NEWCOMERS:
        detail = f"{live.newcomers} WebSockets are waiting to show their access key."
        await socket.send_denial_response(http_problem(503, detail, "Try again in a few seconds."))
        return None, None
    live.newcomers += 1
    try:
        await socket.accept()
        key = await _first_key(socket)
    finally:
        live.newcomers -= 1
    identity = access.identify(key)
    if identity is None:
        socket.app.state.refusals.note("key", socket)
        await socket.close(KEY_REFUSED, 'The first message must be {"access_key": "..."}.')
        return None, None
    return identity, key


async def _first_key(socket: WebSocket) -> object:
    """The key in the first message; None when there is none."""
    try:
        async with asyncio.timeout(KEY_TIMEOUT_S):
            first = json.loads(await socket.receive_text())
    except (TimeoutError, ValueError, KeyError, RecursionError, WebSocketDisconnect):
        return None
    return first.get("access_key") if isinstance(first, dict) else None


async def _send(socket: WebSocket, outbox: Outbox) -> None:
    while True:
        message = await outbox.take()
        await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))


async def _receive_until_gone(socket: WebSocket) -> None:
    """Read until the client closes, so that its pongs are processed; its messages are ignored."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _disconnect(socket: WebSocket, code: int, reason: str) -> None:
    """Close without waiting for a client that does not read."""
    try:
        async with asyncio.timeout(0.1):
            await socket.close(code, reason)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        return
