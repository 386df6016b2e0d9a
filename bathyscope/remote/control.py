"""Control of stages and light during a run, by a script that reacts to what is tracked.

The connection is the control: the service gives it to one client at a time,
keeps every move within its limits, and takes it back when the connection ends,
also when the script crashed. It is never taken again without being asked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as async_connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from bathyscope.remote.live_items import LiveTracks
from bathyscope.remote.microscope import stop
from bathyscope.remote.problems import ServiceError, problem_of
from bathyscope.remote.steps import Number
from bathyscope.remote.transports import AsyncTransport, Place, Transport, as_json
from bathyscope.remote.watch import SOCKET_OPTIONS, refusal_of

__all__ = ["AsyncControl", "Control", "Moved"]

_REFUSED = 4409
"""Close code of the service: another client has control, or it was taken away."""

_ANSWER_S = 90.0
"""Longer than the service waits for slow drives and filter wheels."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The answer to a command.

    Attributes
    ----------
    commanded_s : when the driver was called, s, on the clock of `LiveTracks.captured_monotonic_s`
    stage : positions afterwards: ``stage_um``, ``x_um``, ``y_um``, and the limits
    light : ``shutter_open``, ``channel`` and others
    """

    commanded_s: float
    stage: Mapping[str, Any]
    light: Mapping[str, Any]

    def latency_s(self, state: LiveTracks) -> float:
        """Time from the middle of the exposure of `state` until the driver was called, s."""
        return self.commanded_s - state.captured_monotonic_s


class _Talk:
    """Messages of one control, without input or output."""

    def __init__(self, place: Place, name: str) -> None:
        self.place = place
        self.url = place.socket_url("/control")
        self._name = name
        self._number = 0

    def opening(self) -> list[str]:
        """What is sent first."""
        key = [] if self.place.key is None else [json.dumps({"access_key": self.place.key})]
        return [*key, json.dumps({"name": self._name})]

    def command(self, wanted: Mapping[str, Any]) -> str:
        """A command with the values that are given."""
        self._number += 1
        return as_json({"id": self._number} | {name: value for name, value in wanted.items() if value is not None})

    def answer(self, text: str | bytes) -> dict[str, Any]:
        """The values of an answer.

        Raises
        ------
        ServiceError
            When the service refused the command, or has taken control away.
        """
        values: dict[str, Any] = json.loads(text)
        if "problem" in values:
            raise problem_of(values["problem"])
        return values

    def broken(self, error: Exception) -> ServiceError:
        """What a broken connection means."""
        if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code == _REFUSED:
            return ServiceError(
                error.rcvd.reason or "The service has taken control away.",
                "Look at the events of the service, and take control again.",
                kind="conflict",
                status=409,
            )
        return refusal_of(error) or self.place.away(f"{type(error).__name__}: {error}")


class Control:
    """Control of stages and light; use it in a ``with`` block.

    Parameters
    ----------
    transport : Transport
    name : str or None
        Shown to other users; absent: the name of this script.

    Attributes
    ----------
    stage : mapping
        Positions and limits of the stages as of the last answer.
    """

    def __init__(self, transport: Transport, name: str | None) -> None:
        self._transport = transport
        self._talk = _Talk(transport.place, name or _own_name())
        self._open = ExitStack()
        self._socket: ClientConnection | None = None
        self.stage: Mapping[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            self._socket = self._open.enter_context(connect(self._talk.url, **SOCKET_OPTIONS))
            for message in self._talk.opening():
                self._socket.send(message)
            self.stage = self._talk.answer(self._socket.recv(timeout=_ANSWER_S))["stage"]
        except (OSError, WebSocketException) as error:
            self._close()
            raise self._talk.broken(error) from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def move(
        self,
        *,
        stage_um: Number | None = None,
        by_um: Number | None = None,
        x_um: Number | None = None,
        x_by_um: Number | None = None,
        y_um: Number | None = None,
        y_by_um: Number | None = None,
    ) -> Moved:
        """Move focus drive and XY stage, and wait until they have arrived.

        Parameters
        ----------
        stage_um, by_um : float
            Position of the focus drive, or distance from where it is, µm.
        x_um, x_by_um, y_um, y_by_um : float
            The same for the axes of the XY stage.

        Raises
        ------
        ServiceError
            For a move beyond the limits (nothing moves), and when control was taken away.
        ServiceAway
            When the connection is broken.
        """
        return self._ask(
            stage_um=stage_um, by_um=by_um, x_um=x_um, x_by_um=x_by_um, y_um=y_um, y_by_um=y_by_um
        )  # fmt: skip

    def light(self, *, shutter: Literal["open", "closed"] | None = None, channel: str | None = None) -> Moved:
        """Open or close the shutter, and choose a channel; errors as of `move`."""
        return self._ask(shutter=shutter, channel=channel)

    def stop(self) -> dict[str, Any]:
        """Halt stages and camera, which ends the run and this control; this is not an emergency stop."""
        return self._transport.perform(stop())

    def _ask(self, **wanted: Any) -> Moved:
        if self._socket is None:
            raise _not_entered()
        try:
            self._socket.send(self._talk.command(wanted))
            answer = self._talk.answer(self._socket.recv(timeout=_ANSWER_S))
        except (OSError, WebSocketException) as error:
            raise self._talk.broken(error) from error
        self.stage = answer["stage"]
        return Moved(answer["commanded_s"], answer["stage"], answer["light"])

    def _close(self) -> None:
        self._socket = None
        with suppress(OSError, WebSocketException):
            self._open.close()


class AsyncControl:
    """As `Control`, in an ``async with`` block, each method to be awaited."""

    def __init__(self, transport: AsyncTransport, name: str | None) -> None:
        self._transport = transport
        self._talk = _Talk(transport.place, name or _own_name())
        self._open = AsyncExitStack()
        self._socket: AsyncConnection | None = None
        self.stage: Mapping[str, Any] = {}

    async def __aenter__(self) -> Self:
        try:
            self._socket = await self._open.enter_async_context(async_connect(self._talk.url, **SOCKET_OPTIONS))
            for message in self._talk.opening():
                await self._socket.send(message)
            self.stage = self._talk.answer(await self._socket.recv())["stage"]
        except (OSError, WebSocketException) as error:
            await self._close()
            raise self._talk.broken(error) from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def move(
        self,
        *,
        stage_um: Number | None = None,
        by_um: Number | None = None,
        x_um: Number | None = None,
        x_by_um: Number | None = None,
        y_um: Number | None = None,
        y_by_um: Number | None = None,
    ) -> Moved:
        """As `Control.move`."""
        return await self._ask(
            stage_um=stage_um, by_um=by_um, x_um=x_um, x_by_um=x_by_um, y_um=y_um, y_by_um=y_by_um
        )  # fmt: skip

    async def light(self, *, shutter: Literal["open", "closed"] | None = None, channel: str | None = None) -> Moved:
        """As `Control.light`."""
        return await self._ask(shutter=shutter, channel=channel)

    async def stop(self) -> dict[str, Any]:
        """As `Control.stop`."""
        return await self._transport.perform(stop())

    async def _ask(self, **wanted: Any) -> Moved:
        if self._socket is None:
            raise _not_entered()
        try:
            await self._socket.send(self._talk.command(wanted))
            answer = self._talk.answer(await self._socket.recv())
        except (OSError, WebSocketException) as error:
            raise self._talk.broken(error) from error
        self.stage = answer["stage"]
        return Moved(answer["commanded_s"], answer["stage"], answer["light"])

    async def _close(self) -> None:
        self._socket = None
        with suppress(OSError, WebSocketException):
            await self._open.aclose()


def _own_name() -> str:
    name = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else ""
    return name if name and name.isprintable() else "a script"


def _not_entered() -> ServiceError:
    return ServiceError(
        "This control has not begun, or has ended.",
        "Use it inside: with client.control() as microscope.",
        kind="control",
    )
