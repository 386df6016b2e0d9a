"""The signals that request the end of a process, and the reason that each one gives.

A closed terminal or a lost connection (SIGHUP) ends the service in the same
order as Ctrl-C and the service manager. No user requested that end, so the
current run is marked as interrupted, with the reason. A signal that was
ignored at the start stays ignored, for example SIGHUP under `nohup`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import FrameType
from typing import Any

__all__ = ["ENDING_SIGNALS", "Ending", "ending_of", "handle_ending_signals", "ignore_ending_signals"]

if sys.platform == "win32":  # SIGBREAK is Ctrl-Break; there is no hang-up
    ENDING_SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
else:
    ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

_REASONS = {
    "SIGINT": "it was interrupted with Ctrl-C (SIGINT)",
    "SIGTERM": "it received the request to end (SIGTERM)",
    "SIGHUP": "its terminal was closed or the connection to it was lost (SIGHUP)",
    "SIGQUIT": "it received the request to quit (SIGQUIT)",
    "SIGBREAK": "it was interrupted with Ctrl-Break (SIGBREAK)",
}
_UNREQUESTED = frozenset({"SIGHUP"})


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the service ends.

    Attributes
    ----------
    reason : str
        A clause: "it received the request to end (SIGTERM)".
    wanted : bool
        Whether a user or a service manager requested it; otherwise a current run counts as interrupted.
    """

    reason: str
    wanted: bool = True


def ending_of(number: int) -> Ending:
    """The reason that the signal `number` gives."""
    name = signal.Signals(number).name
    return Ending(_REASONS[name], name not in _UNREQUESTED)


def ignore_ending_signals() -> None:
    """Ignore them in this process; the supervisor handles them."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def handle_ending_signals(
    handler: Callable[[int, FrameType | None], Any], always: Collection[int] = (signal.SIGINT, signal.SIGTERM)
) -> dict[int, Any]:
    """Set `handler` for each of them, except for ignored signals that are not in `always`.

    Returns
    -------
    dict
        The handlers before, by signal number, so that they can be restored.
    """
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    replaced: dict[int, Any] = {
        number: old for number, old in before.items() if number in always or old is not signal.SIG_IGN
    }
    for number in replaced:
        signal.signal(number, handler)
    return replaced
