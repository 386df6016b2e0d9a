"""The live views: one subscription to the engine each, shared by all clients.

A client that cannot keep up must cost neither memory nor frames (a sleeping
laptop's page has filled the memory of frame servers before). So every client
has one outbox: a view in it is replaced by the newer one, events queue up to
a bound, and a client that takes nothing for a while is let go. What was
replaced is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Literal

from service.api.problems import NotReady
from service.api.tasks import keep_on
from service.protocol.clients import EngineClient
from service.store.values import dump_json

__all__ = ["FEED", "PREVIEW", "STREAM", "Live", "Outbox"]

STREAM, PREVIEW, FEED = "stream", "preview", "feed"

_STATUS_LIMIT_S = 2.0
"""The engine tells its status every 250 ms; after eight that did not come it is away."""

_EVENTS_WAITING = 256
"""Events that wait for one client; the oldest give way, and are in /events."""

Message = bytes | str


class Outbox:
    """What waits for one client: events in their order, then the newest view.

    Attributes
    ----------
    send_now : callable or None
        Sends a view at once and says True, or says False when the client is not ready for it. While nothing
        waits and nothing is being sent, a view goes this way, which saves the switch to the client's own task.
    dropped : int
        Messages that a newer one replaced.
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
        """For how long the message that was taken last is being sent, s; 0 when it has been."""
        return 0.0 if self._taken_s is None else time.monotonic() - self._taken_s

    def put_view(self, message: Message) -> None:
        """Send the view now where that is possible, or replace the one that waits."""
        idle = self._taken_s is None and not self._filled.is_set()
        if idle and self.send_now is not None and self.send_now(message):
            return
        self.dropped += self._view is not None
        self._view = message
        self._filled.set()

    def put_event(self, message: Message) -> None:
        """Queue an event; beyond the bound the oldest is dropped."""
        self.dropped += len(self._events) == _EVENTS_WAITING
        self._events.append(message)
        self._filled.set()

    async def take(self) -> Message:
        """The next message, as soon as there is one; the one before has been sent when this is called."""
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


class Live:
    """Newest status, tracks and preview of the engine, and the clients that watch them.

    Parameters
    ----------
    engine : EngineClient
        Where they come from.

    Attributes
    ----------
    clients, dropped, disconnected : Counter
        By view: clients connected now, messages replaced by newer ones, clients let go because they took nothing.
    failures : Counter
        By task: exceptions that nobody expected.
    newcomers : int
        WebSockets that have not shown the access key yet.
    """

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._status: dict[str, Any] = {}
        self._heard_at: float | None = None
        self._newest: dict[str, Message] = {}
        self._outboxes: dict[str, set[Outbox]] = {STREAM: set(), PREVIEW: set(), FEED: set()}
        self.disconnected: Counter[str] = Counter(dict.fromkeys(self._outboxes, 0))
        self._dropped: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.newcomers = 0
        self._status_fault: NotReady | None = None

    @property
    def clients(self) -> Counter[str]:
        """Clients connected now, by view."""
        return Counter({view: len(outboxes) for view, outboxes in self._outboxes.items()})

    @property
    def dropped(self) -> Counter[str]:
        """Messages that a newer one replaced before they were sent, by view."""
        here = {view: sum(outbox.dropped for outbox in outboxes) for view, outboxes in self._outboxes.items()}
        return Counter({view: self._dropped[view] + count for view, count in here.items()})

    @property
    def status(self) -> dict[str, Any] | None:
        """The engine's newest status; None when it is away."""
        if self._heard_at is None or time.monotonic() - self._heard_at > _STATUS_LIMIT_S:
            return None
        return self._status

    def take_status(self, status: dict[str, Any]) -> None:
        """Hold a status that the engine has told, and tell it to those who watch the feed."""
        self._status, self._heard_at, self._status_fault = status, time.monotonic(), None
        self._tell_status()

    def require_ready(self) -> dict[str, Any]:
        """The engine's status, when it tracks or could.

        Raises
        ------
        NotReady
            When the engine is away, or says that it is not ready.
        """
        status = self.status
        # The supervisor notices a dead engine at once, while its last status looks young for two seconds more, and it
        # knows why the engine that is starting had to be started again.
        engine = self._engine.processes().get("engine", {})
        restarting = engine.get("problem") and status is not None and status.get("state") == "starting"
        if status is None or restarting or engine.get("state", "running") != "running":
            raise self._away()
        if not status.get("ready"):
            problem = status.get("problem") or f"The engine is {status.get('state')}, and no tracks flow yet."
            raise NotReady(problem, status.get("remedy") or "Try again in a few seconds; /api/v1/events tells more.")
        return status

    @contextmanager
    def watch(self, view: str) -> Iterator[Outbox]:
        """An outbox that is filled while the block runs; it begins with the newest message."""
        outbox = Outbox()
        if view == FEED:
            outbox.put_event(self._status_text())
        elif view in self._newest and self.status is not None:
            outbox.put_view(self._newest[view])
        self._outboxes[view].add(outbox)
        try:
            yield outbox
        finally:
            self._outboxes[view].discard(outbox)
            self._dropped[view] += outbox.dropped

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen to the engine while the block runs."""
        tasks: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
            ("tracks", lambda: self._listen_to_views("tracks", STREAM)),
            ("preview", lambda: self._listen_to_views("preview", PREVIEW)),
            ("events", self._listen_to_events),
            ("status", self._listen_to_status),
            ("absence", self._tell_absence),
        )
        async with AsyncExitStack() as all_of_them:
            for name, work in tasks:
                await all_of_them.enter_async_context(self.going_on(name, work))
            yield

    @asynccontextmanager
    async def going_on(self, name: str, work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Do `work` on a task while the block runs; a failure is logged, counted and told, and the work begun again."""
        task = asyncio.create_task(keep_on(name, work, self._task_failed), name=name)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _task_failed(self, name: str, error: Exception) -> None:
        self.failures[name] += 1
        problem = f"The API's task for {name} failed ({type(error).__name__}: {error}) and is started again."
        if name == "status":
            self._status_fault = NotReady(problem, "See the log of the service, and report it.")
        self.tell({"type": "event", "kind": "api_task_failed", "occurred_s": time.time(), "message": problem})

    def tell(self, values: dict[str, Any]) -> None:
        """Send something that has happened to all who listen to the feed."""
        text = dump_json(values)
        for outbox in self._outboxes[FEED]:
            outbox.put_event(text)

    async def _listen_to_views(self, topic: Literal["tracks", "preview"], view: str) -> None:
        async for message in self._engine.subscribe(topic):
            self._newest[view] = message
            for outbox in self._outboxes[view]:
                outbox.put_view(message)

    async def _listen_to_events(self) -> None:
        async for event in self._engine.subscribe_values("feed"):
            self.tell({"type": "event", **event})

    async def _listen_to_status(self) -> None:
        async for status in self._engine.subscribe_values("status"):
            self.take_status(status)

    async def _tell_absence(self) -> None:
        while True:
            await asyncio.sleep(_STATUS_LIMIT_S)
            if self.status is None:
                self._tell_status()

    def _away(self) -> NotReady:
        """Why there is no status of the engine, as far as it is known."""
        if self.status is None and self._status_fault is not None:
            return self._status_fault
        away = self._engine.address.away()
        return NotReady(away.problem, away.remedy)

    def _tell_status(self) -> None:
        text = self._status_text()
        for outbox in self._outboxes[FEED]:
            outbox.put_view(text)

    def _status_text(self) -> str:
        status = self.status
        if status is None:
            away = self._away()
            status = {"state": "engine away", "ready": False, "problem": away.problem, "remedy": away.remedy}
        return dump_json({**status, "type": "status"})
