"""The live views: one subscription to the engine each, shared by all clients.

Every client has one `Outbox`, so that a client that cannot keep up costs
neither memory nor frames. A client that receives nothing for a while is
disconnected. Messages that were replaced before they were sent are counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Literal, Protocol

from service.api.outbox import Message, Outbox
from service.api.problems import NotReady
from service.api.tasks import keep_on
from service.protocol.errors import EngineAway
from service.protocol.live import Topic
from service.store.values import dump_json

__all__ = ["FEED", "PREVIEW", "STREAM", "Live", "LiveSource"]

STREAM, PREVIEW, FEED = "stream", "preview", "feed"

_STATUS_LIMIT_S = 2.0
"""The engine sends its status every 250 ms; after eight missing ones it is away."""


class LiveSource(Protocol):
    """What the views come from."""

    def subscribe(self, topic: Topic) -> AsyncIterator[bytes]:
        """See `EngineClient.subscribe`."""

    def subscribe_values(self, topic: Literal["feed", "status"]) -> AsyncIterator[dict[str, Any]]:
        """See `EngineClient.subscribe_values`."""

    def processes(self) -> dict[str, Any]:
        """See `EngineClient.processes`."""

    def away(self) -> EngineAway:
        """The error that says that nothing is heard, and what to do."""


class Live:
    """Newest status, tracks and preview of the engine, and the outboxes of the clients that watch them.

    Parameters
    ----------
    engine : LiveSource
        The engine, or a relayed scope.

    Attributes
    ----------
    clients, dropped, disconnected : Counter
        By view: clients connected now, messages replaced by newer ones, clients disconnected because they did not read.
    failures : Counter
        By task: unexpected exceptions.
    newcomers : int
        WebSockets that have not sent the access key yet.
    """

    def __init__(self, engine: LiveSource) -> None:
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
        """Messages that were replaced by a newer one before they were sent, by view."""
        here = {view: sum(outbox.dropped for outbox in outboxes) for view, outboxes in self._outboxes.items()}
        return Counter({view: self._dropped[view] + count for view, count in here.items()})

    @property
    def status(self) -> dict[str, Any] | None:
        """The engine's newest status; None when it is away."""
        if self._heard_at is None or time.monotonic() - self._heard_at > _STATUS_LIMIT_S:
            return None
        return self._status

    def set_status(self, status: dict[str, Any]) -> None:
        """Keep a status of the engine, and send it to the feed."""
        self._status, self._heard_at, self._status_fault = status, time.monotonic(), None
        self._publish_status()

    def require_ready(self) -> dict[str, Any]:
        """The engine's status, if it tracks or could at once.

        Raises
        ------
        NotReady
            When the engine is away, or its status is not ready.
        """
        status = self.status
        # The supervisor notices a dead engine at once, while its last status still counts for two seconds more; and it
        # has recorded why an engine that is starting was restarted.
        engine = self._engine.processes().get("engine", {})
        restarting = engine.get("problem") and status is not None and status.get("state") == "starting"
        if status is None or restarting or engine.get("state", "running") != "running":
            raise self._away()
        if not status.get("ready"):
            problem = status.get("problem") or f"The engine is {status.get('state')}, and no tracks flow yet."
            raise NotReady(problem, status.get("remedy") or "Try again in a few seconds; see /api/v1/events.")
        return status

    @contextmanager
    def watch(self, view: str) -> Iterator[Outbox]:
        """An outbox that is filled while the block runs, beginning with the newest message."""
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
            ("absence", self._publish_absence),
        )
        async with AsyncExitStack() as all_of_them:
            for name, work in tasks:
                await all_of_them.enter_async_context(self.keep_running(name, work))
            yield

    @asynccontextmanager
    async def keep_running(self, name: str, work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Run `work` on a task while the block runs; after a failure it is logged, counted, published and restarted."""
        task = asyncio.create_task(keep_on(name, work, self._task_failed), name=name)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _task_failed(self, name: str, error: Exception) -> None:
        self.failures[name] += 1
        problem = f"The API's task for {name} failed ({type(error).__name__}: {error}) and is restarted."
        if name == "status":
            self._status_fault = NotReady(problem, "See the log of the service, and report it.")
        self.publish({"type": "event", "kind": "api_task_failed", "occurred_s": time.time(), "message": problem})

    def publish(self, values: dict[str, Any]) -> None:
        """Send an event to all clients of the feed."""
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
            self.publish({"type": "event", **event})

    async def _listen_to_status(self) -> None:
        async for status in self._engine.subscribe_values("status"):
            self.set_status(status)

    async def _publish_absence(self) -> None:
        while True:
            await asyncio.sleep(_STATUS_LIMIT_S)
            if self.status is None:
                self._publish_status()

    def _away(self) -> NotReady:
        """The error that states why there is no status of the engine."""
        if self.status is None and self._status_fault is not None:
            return self._status_fault
        away = self._engine.away()
        return NotReady(away.problem, away.remedy)

    def _publish_status(self) -> None:
        text = self._status_text()
        for outbox in self._outboxes[FEED]:
            outbox.put_view(text)

    def _status_text(self) -> str:
        status = self.status
        if status is None:
            away = self._away()
            status = {"state": "engine away", "ready": False, "problem": away.problem, "remedy": away.remedy}
        return dump_json({**status, "type": "status"})
