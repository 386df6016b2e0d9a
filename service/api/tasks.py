"""Background tasks of the API: an unexpected exception restarts them.

An exception in a task that no code awaits would stop its feed for ever without
a message. So every such task runs in `keep_on`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

__all__ = ["keep_on"]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
"""A lasting failure is logged at most once a minute."""

_log = structlog.get_logger(__name__)


async def keep_on(name: str, work: Callable[[], Awaitable[None]], failed: Callable[[str, Exception], None]) -> None:
    """Do `work` until it returns or this task is cancelled; after an exception, restart it.

    Parameters
    ----------
    name : str
        Of the task, in the log and in the figures.
    work : callable
        Makes the coroutine.
    failed : callable
        Gets the name and the exception that left `work`, which has been logged with its traceback.
    """
    pause_s = _FIRST_PAUSE_S
    loop = asyncio.get_running_loop()
    while True:
        began_s = loop.time()
        try:
            await work()
            return
        except Exception as error:  # noqa: BLE001  the one place where an unexpected exception of a task ends
            if loop.time() - began_s > _LONGEST_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            _log.exception("task_failed", task=name, again_in_s=pause_s)
            failed(name, error)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
