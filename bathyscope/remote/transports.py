"""Who performs the steps of a method: one HTTP connection that blocks, and one that is awaited.

Both turn the problems of the service into `ServiceError`, and broken
connections into `ServiceAway`.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from bathyscope.remote.problems import ServiceAway, ServiceError, problem_of
from bathyscope.remote.steps import Pause, Request, Steps

__all__ = ["KEY_VARIABLE", "AsyncTransport", "Place", "Transport", "as_json"]

T = TypeVar("T")

KEY_VARIABLE = "BATHYSCOPE_ACCESS_KEY"
"""Environment variable with the access key: the setting of the service has the same name."""

_PREFIX = "/api/v1"
_PROGRAM_HEADER = "Bathyscope-Program"
_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """Address of a service, its access key (None: none is needed), and the program that the audit names."""

    address: str
    key: str | None = None
    program: str | None = None

    @classmethod
    def of(cls, address: str, key: str | None, program: str | None = None) -> Place:
        """Check an address; without a key take that of the environment.

        Raises
        ------
        ServiceError
            When it is not an http or https address.
        """
        parts = urlsplit(address if "://" in address else f"http://{address}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServiceError(
                f"The address of the service is {address!r}; it must be an http or https address.",
                "Give it as in http://127.0.0.1:8000.",
                kind="address",
            )
        return cls(f"{parts.scheme}://{parts.netloc}", key or os.environ.get(KEY_VARIABLE) or None, program)

    def url(self, request: Request) -> str:
        """Where a request goes."""
        return self.address + ("" if request.of_root else _PREFIX) + request.path

    def socket_url(self, path: str) -> str:
        """Address of a WebSocket."""
        return "ws" + self.address.removeprefix("http") + _PREFIX + path

    def away(self, reason: object) -> ServiceAway:
        """The error when the service does not respond."""
        return ServiceAway(
            f"The service at {self.address} does not respond ({reason}).",
            "Check that it runs (bathyscope serve), its address and port, and the network.",
        )

    def options(self, request: Request) -> dict[str, Any]:
        """Arguments for `httpx` that describe a request, but for its files."""
        headers = dict(request.headers)
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        if self.program is not None:
            headers[_PROGRAM_HEADER] = _in_header(self.program)
        options: dict[str, Any] = {
            "method": request.method,
            "url": self.url(request),
            "params": {name: value for name, value in request.query.items() if value is not None},
            "headers": headers,
            "timeout": httpx.Timeout(request.timeout_s, connect=_CONNECT_S),
        }
        if request.json is not None:
            options["content"] = as_json(request.json)
            headers["Content-Type"] = "application/json"
        return options

    @contextmanager
    def opened(self, request: Request) -> Iterator[dict[str, Any]]:
        """The arguments with the files of the request, which are open while the block runs."""
        options = self.options(request)
        if request.upload is None:
            yield options
            return
        with request.upload.options() as of_files:
            yield {**options, **of_files, "headers": {**options["headers"], **of_files.get("headers", {})}}


def _in_header(text: str) -> str:
    """The text without characters that a header may not have."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text).strip()


def as_json(values: Any) -> str:
    """JSON of values that may contain numbers of NumPy."""
    return json.dumps(values, default=lambda number: number.item())


class Transport:
    """Performs steps in the thread that calls.

    Parameters
    ----------
    place : Place
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        # The service is reached directly: a proxy of the environment is for the internet.
        self._http = httpx.Client(trust_env=False)

    def perform(self, steps: Steps[T]) -> T:
        """Perform the steps and return their result.

        Raises
        ------
        ServiceError
            As the service refuses.
        ServiceAway
            When it does not respond.
        """
        answer: Any = None
        failure: ServiceError | None = None
        while True:
            try:
                step = steps.send(answer) if failure is None else steps.throw(failure)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            answer, failure = None, None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                continue
            try:
                answer = self._send(step)
            except ServiceError as error:
                failure = error

    def _send(self, request: Request) -> httpx.Response:
        with (
            _connected(self.place),
            self.place.opened(request) as options,
            self._http.stream(**options) as response,
        ):
            if request.save_to is None or response.is_error:
                response.read()
            else:
                with open(request.save_to, "wb") as file:
                    for part in response.iter_bytes():
                        file.write(part)
            return _accepted(response)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


class AsyncTransport:
    """Performs steps in an event loop.

    Parameters
    ----------
    place : Place
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._http = httpx.AsyncClient(trust_env=False)

    async def perform(self, steps: Steps[T]) -> T:
        """As `Transport.perform`."""
        answer: Any = None
        failure: ServiceError | None = None
        while True:
            try:
                step = steps.send(answer) if failure is None else steps.throw(failure)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            answer, failure = None, None
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                continue
            try:
                answer = await self._send(step)
            except ServiceError as error:
                failure = error

    async def _send(self, request: Request) -> httpx.Response:
        with self.place.opened(request) as options:
            return await self._send_with(request, options)

    async def _send_with(self, request: Request, options: dict[str, Any]) -> httpx.Response:
        async with _async_connected(self.place), self._http.stream(**options) as response:
            if request.save_to is None or response.is_error:
                await response.aread()
            else:
                with open(request.save_to, "wb") as file:  # noqa: ASYNC230  a part of some kB blocks for microseconds
                    async for part in response.aiter_bytes():
                        file.write(part)
            return _accepted(response)

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()


@contextmanager
def _connected(place: Place) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise place.away(str(error) or type(error).__name__) from error


@asynccontextmanager
async def _async_connected(place: Place) -> AsyncIterator[None]:
    with _connected(place):
        yield


def _accepted(response: httpx.Response) -> httpx.Response:
    """The response, unless it is an error."""
    if not response.is_error:
        return response
    try:
        values = response.json()
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ServiceError(
            f"{response.request.method} {response.request.url} was refused with the status {response.status_code}, "
            "and the response is no problem of Bathyscope.",
            "Check that a Bathyscope service listens at this address.",
            kind="not-bathyscope",
            status=response.status_code,
        )
    raise problem_of(values, response.status_code)
