"""The state of one live stream on the side of the client, without input or output.

It decodes messages, notices restarts of the engine and broken connections,
says so in the next item and in the log, and decides how long to wait before
the next attempt to connect. The loops that read the WebSocket are in `live`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from websockets.exceptions import ConnectionClosed, InvalidStatus

from bathyscope.remote.problems import ServiceError, problem_of
from bathyscope.remote.transports import Place

__all__ = ["SOCKET_OPTIONS", "LiveItem", "Watch", "refusal_of"]

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_KEY_REFUSED = 4401
"""Close code of the service: the access key is missing or wrong."""

_log = logging.getLogger("bathyscope")


SOCKET_OPTIONS: dict[str, Any] = {
    "open_timeout": 5.0,
    "close_timeout": 1.0,
    "ping_interval": 5.0,
    "ping_timeout": 10.0,
    "max_size": None,
    "max_queue": 16,
    "compression": None,
    "proxy": None,
}
"""A network that breaks silently is noticed by the pings. Few messages wait, because all but the newest are dropped."""


class LiveItem(Protocol):
    """What a binary stream brings."""

    @property
    def epoch(self) -> str:
        """Of the engine."""
        ...

    @property
    def sequence(self) -> int:
        """Number of the message within the epoch."""
        ...


Item = TypeVar("Item", bound=LiveItem)


class Watch(Generic[Item]):
    """One iteration over a live stream.

    Parameters
    ----------
    place : Place
    path : str
        Of the WebSocket, below ``/api/v1``.
    read : callable
        Decodes a message; takes also the number of missed ones and the interruption.
    duration_s : float or None
        The iteration ends after this time; None: it does not.
    patience_s : float
        Longest time without a connection.
    """

    def __init__(
        self,
        place: Place,
        path: str,
        read: Callable[[bytes, int, str | None], Item],
        duration_s: float | None,
        patience_s: float,
    ) -> None:
        self.url = place.socket_url(path)
        self._place = place
        self._read = read
        self._end_s = None if duration_s is None else time.monotonic() + duration_s
        self._patience_s = patience_s
        self._lost_s: float | None = time.monotonic()
        self._pause_s = _FIRST_PAUSE_S
        self._last: Item | None = None
        self._interruption: str | None = None

    @property
    def over(self) -> bool:
        """Whether the duration has passed."""
        return self._end_s is not None and time.monotonic() >= self._end_s

    def wait_s(self, most: float) -> float:
        """How long to wait for a message: up to `most`, and not beyond the duration."""
        return most if self._end_s is None else max(min(most, self._end_s - time.monotonic()), 0.0)

    def greeting(self) -> str | None:
        """The first message to send after connecting: the access key, where there is one."""
        return None if self._place.key is None else json.dumps({"access_key": self._place.key})

    def works(self) -> None:
        """Note that the connection works: a message came, or it stayed open for a while."""
        if self._lost_s is None:
            return
        lost_s, self._lost_s = self._lost_s, None
        self._pause_s = _FIRST_PAUSE_S
        if self._last is not None:
            self._say(f"The connection was lost for {time.monotonic() - lost_s:.1f} s.")

    def item(self, message: str | bytes) -> Item:
        """Decode a message."""
        self.works()
        if isinstance(message, str):
            raise ServiceError(
                f"{self.url} sent text, not a binary message.", "Update client and service.", kind="not-bathyscope"
            )
        item = self._read(message, 0, None)
        last, missed = self._last, 0
        if last is not None and item.epoch != last.epoch:
            self._say("The engine was restarted: the tracks before this state have ended.")
        elif last is not None:
            missed = max(item.sequence - last.sequence - 1, 0)
        if missed or self._interruption:
            item = self._read(message, missed, self._interruption)
        self._last, self._interruption = item, None
        return item

    def broken(self, error: Exception) -> float:
        """Note that the connection is broken; return the pause before the next attempt, s.

        Raises
        ------
        ServiceError
            When the service refuses this client, or has been away for longer than the patience.
        """
        refusal = refusal_of(error)
        if refusal is not None:
            raise refusal from error
        now_s = time.monotonic()
        if self._lost_s is None:
            self._lost_s = now_s
        if now_s - self._lost_s > self._patience_s:
            raise self._place.away(f"{type(error).__name__}: {error}") from error
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return self.wait_s(pause_s)

    def _say(self, sentence: str) -> None:
        _log.warning("%s", sentence)
        self._interruption = sentence if self._interruption is None else f"{self._interruption} {sentence}"


def refusal_of(error: Exception) -> ServiceError | None:
    """The refusal of a WebSocket by the service; None when the connection is only broken, or it asks to wait."""
    if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code == _KEY_REFUSED:
        return _key_refused()
    if not isinstance(error, InvalidStatus) or error.response.status_code == 503:
        return None
    try:
        values: Any = json.loads(error.response.body or b"")
    except ValueError:
        values = None
    return problem_of(values if isinstance(values, dict) else {"detail": str(error)}, error.response.status_code)


def _key_refused() -> ServiceError:
    return ServiceError(
        "This service asks for its access key.",
        "Give it as Client(address, key=...), or in the environment variable BATHYSCOPE_ACCESS_KEY.",
        kind="access-key",
        title="The access key is missing or wrong",
        status=401,
    )
