"""What lies between two threads of the engine: a queue with an end, that says how it is doing.

Nothing here grows without bound. A full stage refuses what is offered, and the
one who offers decides what that means for the frame. A slot holds the newest
item only, for views.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Generic, TypeVar

__all__ = ["Slot", "Stage"]

Item = TypeVar("Item")


class Stage(Generic[Item]):
    """A bounded first-in, first-out queue between one or more givers and one taker.

    Parameters
    ----------
    capacity : int
        Items that may wait.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[tuple[float, Item]] = deque()
        self._changed = threading.Condition()
        self._awaited = 1
        self._closed = False
        self._highest = 0
        self._dropped = 0

    def offer(self, item: Item) -> bool:
        """Put an item in; False, at once, when the stage is full or closed."""
        with self._changed:
            if self._closed or len(self._items) >= self._capacity:
                self._dropped += 1
                return False
            self._items.append((time.monotonic(), item))
            self._highest = max(self._highest, len(self._items))
            if len(self._items) >= self._awaited:
                self._changed.notify()
            return True

    def take(self, limit: int, timeout_s: float, gather_s: float = 0.0) -> list[Item]:
        """Take what has come, oldest first.

        Parameters
        ----------
        limit : int
            Most items to take.
        timeout_s : float
            Longest wait for the first one.
        gather_s : float
            Longest that the first one waits for others, counted from when it was offered. The taker's thread
            sleeps until then, or until `limit` items have come or half of the room is taken; items between do
            not wake it.

        Returns
        -------
        list
            Empty after `timeout_s`, or at the end.
        """
        with self._changed:
            self._wait_for_items(1, timeout_s)
            if self._items and gather_s > 0:
                # Half of the room is kept for what comes while the taker works.
                enough = min(limit, max(self._capacity // 2, 1))
                self._wait_for_items(enough, max(self._items[0][0] + gather_s - time.monotonic(), 0.0))
            return [self._items.popleft()[1] for _ in range(min(limit, len(self._items)))]

    def _wait_for_items(self, count: int, timeout_s: float) -> None:
        self._awaited = count
        self._changed.wait_for(lambda: len(self._items) >= count or self._closed, timeout_s)
        self._awaited = 1

    def close(self) -> None:
        """Refuse new items; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed

    @property
    def ended(self) -> bool:
        """Whether the stage is closed and empty."""
        with self._changed:
            return self._closed and not self._items

    @property
    def depth(self) -> int:
        """Items waiting."""
        return len(self._items)

    def report(self) -> dict[str, Any]:
        """Items waiting, the most that ever waited, how many were refused, and the age of the oldest (s)."""
        with self._changed:
            age_s = time.monotonic() - self._items[0][0] if self._items else 0.0
            return {
                "depth": len(self._items),
                "capacity": self._capacity,
                "highest": self._highest,
                "dropped": self._dropped,
                "age_s": age_s,
            }


class Slot(Generic[Item]):
    """Holds the newest item for a view; an older one that nobody took is dropped and counted."""

    def __init__(self) -> None:
        self._item: Item | None = None
        self._since_s = 0.0
        self._changed = threading.Condition()
        self._closed = False
        self._dropped = 0

    def put(self, item: Item) -> None:
        """Replace what is there."""
        with self._changed:
            self._dropped += self._item is not None
            self._item, self._since_s = item, time.monotonic()
            self._changed.notify()

    def take(self, timeout_s: float) -> Item | None:
        """Take the newest item; None after `timeout_s` or at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout_s)
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Wake the taker for the end; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the slot is closed and empty."""
        with self._changed:
            return self._closed and self._item is None

    def report(self) -> dict[str, Any]:
        """As of a `Stage` that holds one item."""
        with self._changed:
            waiting = self._item is not None
            age_s = time.monotonic() - self._since_s if waiting else 0.0
            return {
                "depth": int(waiting),
                "capacity": 1,
                "highest": 1 if self._since_s else 0,
                "dropped": self._dropped,
                "age_s": age_s,
            }
