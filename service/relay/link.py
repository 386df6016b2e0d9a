"""The connection to a NATS server, which may go away and come back.

Each scope publishes on ``bathyscope.<scope>.<topic>``, with the topics and the
messages of the engine's socket `live`, and on ``bathyscope.<scope>.link`` what
it has sent. A message that cannot be sent at once is dropped and counted: views
are old a moment later, and events are in the database of the scope.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from models.errors import DataError
from service.settings import RelayPart

if TYPE_CHECKING:
    from nats.aio.client import Client

__all__ = ["LINK", "TOPICS", "RelayLink", "load_nats", "subject"]

TOPICS = ("tracks", "preview", "feed", "status")
LINK = "link"

_PENDING_BYTES = 4 * 1024 * 1024
"""What waits for a slow server before a sender waits; meanwhile newer views replace older ones."""
_RETRY_S = 1.0
_CONNECT_S = 2

_log = structlog.get_logger(__name__)


def subject(scope: str, topic: str) -> str:
    """The subject of a topic of a scope; ``"*"`` for all of them."""
    return f"bathyscope.{scope}.{topic}"


def load_nats() -> Any:
    """The client library of NATS.

    Raises
    ------
    DataError
        When it is not installed.
    """
    try:
        import nats.aio.client
        import nats.errors
    except ModuleNotFoundError as error:
        raise DataError("The client of NATS is not installed (nats-py).", "pip install 'bathyscope[relay]'") from error
    return nats


class RelayLink:
    """A connection to the NATS server of the settings, made again whenever it is lost.

    Parameters
    ----------
    settings : RelayPart
        With the address of the server.
    name : str
        For the monitoring of the server.

    Attributes
    ----------
    sent, dropped : int
        Messages that were handed to the server, and messages for which it was away.
    losses : int
        How often the connection was lost.
    """

    def __init__(self, settings: RelayPart, name: str) -> None:
        self._nats = load_nats()
        self._settings = settings
        self._name = name
        self._client: Client = self._nats.aio.client.Client()
        self._first = asyncio.Event()
        self.sent = 0
        self.dropped = 0
        self.losses = 0

    @property
    def is_connected(self) -> bool:
        """Whether the server is there."""
        return self._client.is_connected

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connect while the block runs, and do not wait for the server."""
        task = asyncio.create_task(self._connect())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with contextlib.suppress(Exception):  # a server that is away cannot be taken leave of
                await self._client.close()
            await asyncio.sleep(0)  # its tasks end after they were cancelled

    async def send(self, to: str, message: bytes) -> None:
        """Send a message, or count it as dropped."""
        if not self._client.is_connected:
            self.dropped += 1
            return
        try:
            await self._client.publish(to, message)
        except self._nats.errors.Error as error:
            self.dropped += 1
            _log.debug("not_sent", subject=to, error=f"{type(error).__name__}: {error}")
        else:
            self.sent += 1

    async def receive(self, pattern: str, got: Callable[[str, bytes], Awaitable[None]]) -> None:
        """Give each message of a pattern of subjects, until the task is cancelled; also after the server was away."""

        async def take(message: Any) -> None:
            await got(message.subject, message.data)

        await self._first.wait()
        await self._client.subscribe(pattern, cb=take)
        await asyncio.Event().wait()

    async def _connect(self) -> None:
        token = self._settings.token
        while True:
            try:
                await self._client.connect(
                    servers=[str(self._settings.nats)],
                    name=self._name,
                    token=None if token is None else token.get_secret_value(),
                    connect_timeout=_CONNECT_S,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=_RETRY_S,  # type: ignore[arg-type]  # fractions of a second work
                    pending_size=_PENDING_BYTES,
                    error_cb=self._note_error,
                    disconnected_cb=self._note_loss,
                    reconnected_cb=self._note_return,
                )
            except (OSError, self._nats.errors.Error) as error:
                _log.warning("relay_server_away", server=self._settings.nats, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_RETRY_S)
            else:
                _log.info("relay_connected", server=self._settings.nats)
                self._first.set()
                return

    async def _note_error(self, error: Exception) -> None:
        _log.debug("relay_error", error=f"{type(error).__name__}: {error}")

    async def _note_loss(self) -> None:
        self.losses += 1
        _log.warning("relay_server_lost", server=self._settings.nats)

    async def _note_return(self) -> None:
        _log.info("relay_server_back", server=self._settings.nats)
