"""The outbox of one client of the live views.

A client that cannot keep up must cost neither memory nor frames. So a view in
its outbox is replaced by the newer one, and events queue up to a limit.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Message", "Outbox"]

_EVENTS_WAITING = 256
"""Events that wait for one client; beyond it the oldest are dropped, and are still in /events."""

Message = bytes | str


class Outbox:
    """Messages that wait for one client: events in their order, then the newest view.

    Attributes
    ----------
    send_now : callable or None
        Sends a view at once and returns True, or returns False when the client is not ready for it. While nothing
        waits and nothing is being sent, a view goes this way, which saves the switch to the client's own task.
    dropped : int
        Messages that were replaced by a newer one.
    """

    def __init__(self) -> None:
        self._events: deque[Message] = deque(maxlen=_EVENTS_WAITING)
        self._view: Message | None = None
        self._filled = asyncio.Event()
        self._taken_s: float | None = None
        self.send_now: Callable[[Message], bool] | None = None
        self.dropped = 0

    @property
    def held_up_s(self) -> float:
        """Time since the last message was taken for sending, s; 0 when it has been sent."""
        return 0.0 if self._taken_s is None else time.monotonic() - self._taken_s

    def put_view(self, message: Message) -> None:
        """Send the view now if that is possible; otherwise replace the waiting one."""
        idle = self._taken_s is None and not self._filled.is_set()
        if idle and self.send_now is not None and self.send_now(message):
            return
        self.dropped += self._view is not None
        self._view = message
        self._filled.set()

    def put_event(self, message: Message) -> None:
        """Queue an event; beyond the limit the oldest is dropped."""
        self.dropped += len(self._events) == _EVENTS_WAITING
        self._events.append(message)
        self._filled.set()

    async def take(self) -> Message:
        """Wait for the next message; a call means that the message before has been sent."""
        self._taken_s = None
        await self._filled.wait()
        self._taken_s = time.monotonic()
        message: Message | None
        if self._events:
            message = self._events.popleft()
        else:
            message, self._view = self._view, None
        if not self._events and self._view is None:
            self._filled.clear()
        assert message is not None  # noqa: S101  the event is set only while something waits
        return message
