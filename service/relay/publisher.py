"""The process that publishes the live results of this scope, a child of the supervisor.

It listens to the socket `live` as the API does. The engine does not know of
it, and never waits for it: of a view that is not fetched in time the engine's
socket keeps only the newest message.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import msgpack
import structlog

from service.process.children import follow_parent, ignore_signals
from service.process.logs import configure_logs
from service.protocol.addresses import LinkAddress
from service.protocol.clients import EngineClient
from service.protocol.live import Topic
from service.relay.link import LINK, RelayLink, subject
from service.settings import Settings

__all__ = ["publish", "publisher_process"]

_BEAT_S = 1.0
_VIEWS_OF_ENGINE: tuple[Topic, ...] = ("tracks", "preview", "feed", "status")

_log = structlog.get_logger(__name__)


def publisher_process(settings: Settings, address: LinkAddress, parent: Connection) -> None:
    """Entry point of the child process: publish until the supervisor stops it or dies."""
    ignore_signals()
    configure_logs(settings.log_level)
    # The sockets of the engine need this event loop; on Windows asyncio would choose another one.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_run(settings, address, parent))


async def _run(settings: Settings, address: LinkAddress, parent: Connection) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def end(_interruption: str | None) -> None:
        loop.call_soon_threadsafe(stop.set)

    follow_parent(parent, end)
    engine = EngineClient(address)
    work = asyncio.create_task(publish(settings, engine, lambda: _beat(parent)))
    try:
        ended = asyncio.create_task(stop.wait())
        await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()  # an exception ends the process, and the supervisor starts it again
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await engine.close()


async def publish(settings: Settings, engine: EngineClient, beat: Callable[[], None] = lambda: None) -> None:
    """Publish what the engine publishes, until the task is cancelled.

    Parameters
    ----------
    settings : Settings
        With `relay.nats` and `relay.scope`.
    engine : EngineClient
    beat : callable, optional
        Called once a second.
    """
    scope = settings.relay.scope
    link = RelayLink(settings.relay, f"scope {scope}")
    async with link.running(), asyncio.TaskGroup() as tasks:
        for topic in _VIEWS_OF_ENGINE:
            tasks.create_task(_pass_on(engine, link, topic, subject(scope, topic)))
        while True:
            figures = {"sent": link.sent, "dropped": link.dropped, "losses": link.losses, "sent_s": time.time()}
            await link.send(subject(scope, LINK), msgpack.packb(figures))
            beat()
            await asyncio.sleep(_BEAT_S)


async def _pass_on(engine: EngineClient, link: RelayLink, topic: Topic, to: str) -> None:
    async for message in engine.subscribe(topic):
        await link.send(to, message)


def _beat(parent: Connection) -> None:
    with contextlib.suppress(OSError):
        parent.send({"state": "running"})
