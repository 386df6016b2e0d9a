"""What a method of the client does, as steps without input or output.

Each method is a generator: it yields requests and pauses, receives the
responses, and returns the result. So it is written once, and the synchronous
and the asynchronous client differ only in who performs the steps. A new
endpoint of the service is one such function, and one line in the class of its
resource::

    def rename(run: Run | str, name: str) -> Steps[Run]:
        return Run.read((yield Request("PATCH", f"/runs/{id_of(run)}", json={"name": name})).json())

    class RunMethods:
        rename = Endpoint(rename)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

import httpx
import numpy as np

from bathyscope.remote.uploads import Upload

__all__ = ["Awaiting", "Blocking", "Endpoint", "Number", "Pause", "Request", "Steps", "get", "id_of", "pages"]

Number: TypeAlias = "float | np.floating[Any]"
"""A number of Python or NumPy: positions often come from arrays."""

P = ParamSpec("P")
T = TypeVar("T")

_PAGE = 1000
"""Most items of a page of the service."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes
    ----------
    method : ``"GET"``, ``"POST"``, ...
    path : below ``/api/v1``, or from the root when `of_root`
    query : parameters; those that are None are left out
    json : the body, or None
    headers : beside the access key
    timeout_s : longest time without a byte of the response
    save_to : file into which the body of the response is written; None: it is kept in memory
    upload : files of the body, or None
    of_root : whether the path begins at the root of the service
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 30.0
    save_to: Path | None = None
    upload: Upload | None = None
    of_root: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait of some seconds."""

    seconds: float


Steps: TypeAlias = Generator[Request | Pause, httpx.Response, T]
"""Yields requests and pauses; a request is answered with its response, which is not an error."""


class Blocking(Protocol):
    """A part of the synchronous client: performs the steps, and returns the result."""

    def _perform(self, steps: Steps[T]) -> T: ...


class Awaiting(Protocol):
    """A part of the asynchronous client: performs the steps when it is awaited."""

    async def _perform(self, steps: Steps[T]) -> T: ...


class Endpoint(Generic[P, T]):
    """A method of both clients.

    Parameters
    ----------
    work : callable
        Returns the steps. Its docstring and signature are those of the method.
    """

    def __init__(self, work: Callable[P, Steps[T]]) -> None:
        self._work = work
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, part: None, owner: type | None = None) -> Callable[P, Steps[T]]: ...
    @overload
    def __get__(self, part: Blocking, owner: type | None = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, part: Awaiting, owner: type | None = None) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, part: Any, owner: type | None = None) -> Any:
        """The method of a part of a client; of the class, the function itself."""
        if part is None:
            return self._work
        return update_wrapper(partial(_perform, part, self._work), self._work)


def _perform(part: Any, work: Callable[..., Steps[Any]], *arguments: Any, **named: Any) -> Any:
    return part._perform(work(*arguments, **named))


def id_of(item: Any) -> str:
    """The id of a run, job, calibration or model, which may be given itself or by its id."""
    return item if isinstance(item, str) else str(item.id)


def get(path: str, **query: Any) -> Steps[Any]:
    """The JSON of a GET request."""
    return (yield Request("GET", path, query)).json()


def pages(path: str, read: Callable[[Mapping[str, Any]], T], limit: int | None, **query: Any) -> Steps[list[T]]:
    """The items of a list of the service, over all its pages.

    Parameters
    ----------
    path : str
    read : callable
        Makes an item of its JSON.
    limit : int or None
        Most items; None: all of them.
    """
    items: list[T] = []
    cursor: str | None = None
    while True:
        wanted = _PAGE if limit is None else min(limit - len(items), _PAGE)
        page = yield from get(path, limit=wanted, cursor=cursor, **query)
        items += [read(item) for item in page["items"]]
        cursor = page["next"]
        if cursor is None or (limit is not None and len(items) >= limit):
            return items
