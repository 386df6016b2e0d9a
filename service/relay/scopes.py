"""The scopes that a relay hears of, each with the live views that its own service has."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgpack
import structlog
from pydantic import BaseModel, ConfigDict, Field

from service.api.live import Live
from service.api.quantities import Id
from service.protocol.errors import EngineAway
from service.protocol.live import Topic
from service.relay.link import LINK, TOPICS, RelayLink, subject
from service.settings import SCOPE_NAME, RelayPart
from service.store.errors import UnknownItem

__all__ = ["Scope", "ScopeItem", "Scopes"]

_FEED_WAITING = 1000
_SUBJECT = re.compile(rf"bathyscope\.({SCOPE_NAME})\.(\w+)")

_log = structlog.get_logger(__name__)


class ScopeItem(BaseModel):
    """A scope in the list of a relay."""

    model_config = ConfigDict(extra="forbid")

    id: Id = Field(description="Its name; its WebSockets are below /scopes/NAME/api/v1.")
    state: str = Field(description="State of its engine; `away` when nothing was heard of it for two seconds.")
    run_id: str | None = Field(description="The run that is on.")
    heard_s: float = Field(description="Time since its last message, s.")
    received: dict[str, int] = Field(description="Messages by topic.")
    replaced: dict[str, int] = Field(description="Messages by topic that were replaced before they were taken.")
    clients: dict[str, int] = Field(description="Viewers connected now, by view.")
    sender: dict[str, float] | None = Field(description="Sent and dropped messages, by the scope itself.")


class Scope:
    """One scope as a source of `Live`: it gives what the scope's engine publishes.

    Parameters
    ----------
    name : str
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.live = Live(self)
        self.received: Counter[str] = Counter(dict.fromkeys(TOPICS, 0))
        self.replaced: Counter[str] = Counter(dict.fromkeys(TOPICS, 0))
        self.sender: dict[str, float] | None = None
        self._heard_s = time.monotonic()
        self._waiting: dict[str, deque[bytes]] = {
            topic: deque(maxlen=_FEED_WAITING if topic == "feed" else 1) for topic in TOPICS
        }
        self._filled = {topic: asyncio.Event() for topic in TOPICS}

    def put(self, topic: str, message: bytes) -> None:
        """Take a message of a topic."""
        self._heard_s = time.monotonic()
        if topic == LINK:
            self.sender = _figures(message)
            return
        if topic not in self._waiting:
            return
        waiting = self._waiting[topic]
        self.received[topic] += 1
        self.replaced[topic] += len(waiting) == waiting.maxlen
        waiting.append(message)
        self._filled[topic].set()

    async def subscribe(self, topic: Topic) -> AsyncIterator[bytes]:
        """See `EngineClient.subscribe`; for one listener."""
        waiting, filled = self._waiting[topic], self._filled[topic]
        while True:
            await filled.wait()
            while waiting:
                yield waiting.popleft()
            filled.clear()

    async def subscribe_values(self, topic: Literal["feed", "status"]) -> AsyncIterator[dict[str, Any]]:
        """Like `subscribe`, unpacked; what is no message of the service is left out."""
        async for message in self.subscribe(topic):
            values = _unpacked(message)
            if values is not None:
                yield values

    def processes(self) -> dict[str, Any]:
        """Nothing is known of the processes of another machine."""
        return {}

    def away(self) -> EngineAway:
        """The error of a scope that is not heard."""
        return EngineAway(f"Nothing was heard of the scope {self.name} for {time.monotonic() - self._heard_s:.0f} s.")

    def item(self) -> ScopeItem:
        """The scope in a list."""
        status = self.live.status
        return ScopeItem(
            id=self.name,
            state="away" if status is None else str(status.get("state")),
            run_id=None if status is None else status.get("run_id"),
            heard_s=round(time.monotonic() - self._heard_s, 3),
            received=dict(self.received),
            replaced=dict(self.replaced),
            clients=dict(self.live.clients),
            sender=self.sender,
        )


class Scopes:
    """All scopes of one NATS server.

    Parameters
    ----------
    settings : RelayPart

    Attributes
    ----------
    refused : int
        Messages of scopes beyond `most_scopes`, and of subjects that no scope has.
    """

    def __init__(self, settings: RelayPart) -> None:
        self.link = RelayLink(settings, "relay")
        self._most = settings.most_scopes
        self._scopes: dict[str, Scope] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.refused = 0

    def get(self, name: str) -> Scope:
        """One scope.

        Raises
        ------
        UnknownItem
            When nothing was heard of it since the start.
        """
        if name not in self._scopes:
            raise UnknownItem(f"There is no scope {name[:64]!r}.", "GET /api/v1/scopes lists those that were heard.")
        return self._scopes[name]

    def all(self) -> list[Scope]:
        """All that were heard since the start, by name."""
        return [self._scopes[name] for name in sorted(self._scopes)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen while the block runs."""
        async with self.link.running():
            task = asyncio.create_task(self.link.receive(subject("*", "*"), self._take))
            try:
                yield
            finally:
                tasks = [task, *self._tasks.values()]
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, to: str, message: bytes) -> None:
        found = _SUBJECT.fullmatch(to)
        if found is None or (found[1] not in self._scopes and len(self._scopes) >= self._most):
            self.refused += 1
            return
        name, topic = found[1], found[2]
        if name not in self._scopes:
            _log.info("scope_heard", scope=name)
            self._scopes[name] = scope = Scope(name)
            self._tasks[name] = asyncio.create_task(_run(scope))
        self._scopes[name].put(topic, message)


async def _run(scope: Scope) -> None:
    async with scope.live.running():
        await asyncio.Event().wait()


def _unpacked(message: bytes) -> dict[str, Any] | None:
    try:
        values = msgpack.unpackb(message)
    except (ValueError, msgpack.UnpackException):
        return None
    return values if isinstance(values, dict) else None


def _figures(message: bytes) -> dict[str, float] | None:
    values = _unpacked(message)
    if values is None:
        return None
    return {str(name): float(value) for name, value in values.items() if isinstance(value, int | float)}
