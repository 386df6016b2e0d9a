"""Queues between two threads of the engine, with an end and a report.

They are bounded: a full stage refuses an item, and the producer decides what
happens with it, or the producer waits. A slot holds only the newest item, for views.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Generic, TypeVar

__all__ = ["Slot", "Stage"]

Item = TypeVar("Item")


class Stage(Generic[Item]):
    """A bounded first-in, first-out queue between one or more producers and one consumer.

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
        """Add an item; returns False at once when the stage is full or closed."""
        with self._changed:
            if self._closed or len(self._items) >= self._capacity:
                self._dropped += 1
                return False
            self._add(item)
            return True

    def put(self, item: Item) -> bool:
        """Add an item, after a wait while the stage is full; returns False when the stage is closed."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._capacity or self._closed)
            if self._closed:
                self._dropped += 1
                return False
            self._add(item)
            return True

    def _add(self, item: Item) -> None:
        self._items.append((time.monotonic(), item))
        self._highest = max(self._highest, len(self._items))
        if len(self._items) >= self._awaited:
            self._changed.notify_all()

    def take(self, limit: int, timeout_s: float, gather_s: float = 0.0) -> list[Item]:
        """Take the waiting items, oldest first.

        Parameters
        ----------
        limit : int
            Most items to take.
        timeout_s : float
            Longest wait for the first one.
        gather_s : float
            Longest that the first one waits for others, counted from when it was offered. The consumer's
            thread sleeps until then, or until `limit` items wait or the stage is half full; single items do not
            wake it.

        Returns
        -------
        list
            Empty after `timeout_s`, or at the end.
        """
        with self._changed:
            self._wait_for_items(1, timeout_s)
            if self._items and gather_s > 0:
                # Half of the capacity is kept for items that come while the consumer works.
                enough = min(limit, max(self._capacity // 2, 1))
                self._wait_for_items(enough, max(self._items[0][0] + gather_s - time.monotonic(), 0.0))
            full = len(self._items) >= self._capacity
            items = [self._items.popleft()[1] for _ in range(min(limit, len(self._items)))]
            if full:
                self._changed.notify_all()  # whoever waits in `put`
            return items

    def _wait_for_items(self, count: int, timeout_s: float) -> None:
        self._awaited = count
        self._changed.wait_for(lambda: len(self._items) >= count or self._closed, timeout_s)
        self._awaited = 1

    def close(self) -> None:
        """Refuse new items; the waiting ones can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the stage takes no more items."""
        return self._closed

    @property
    def ended(self) -> bool:
        """Whether the stage is closed and empty."""
        with self._changed:
            return self._closed and not self._items

    @property
    def depth(self) -> int:
        """Number of waiting items."""
        return len(self._items)

    def report(self) -> dict[str, Any]:
        """Waiting items, capacity, highest number of waiting items, refused items, and age of the oldest one (s)."""
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
    """Holds the newest item for a view; an older one that was not taken is dropped and counted."""

    def __init__(self) -> None:
        self._item: Item | None = None
        self._since_s = 0.0
        self._changed = threading.Condition()
        self._closed = False
        self._dropped = 0

    def put(self, item: Item) -> None:
        """Replace the item."""
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
        """Wake the consumer for the end; the item can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the slot is closed and empty."""
        with self._changed:
            return self._closed and self._item is None

    def report(self) -> dict[str, Any]:
        """The same figures as of a `Stage`, for a capacity of one item."""
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
