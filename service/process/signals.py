"""The signals that ask for the end: which they are, and what each says about its sender.

A closed terminal or a lost connection (SIGHUP) ends the service in order, as
Ctrl-C and the service manager do; but nobody asked for that end, so the run
that it cuts off is told the reason. A signal that was ignored at the start, as
`nohup` does with SIGHUP, stays ignored.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import FrameType
from typing import Any

__all__ = ["ENDING_SIGNALS", "Ending", "answer_ending_signals", "ending_of", "ignore_ending_signals"]

if sys.platform == "win32":  # SIGBREAK is Ctrl-Break; there is no hang-up
    ENDING_SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
else:
    ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

_REASONS = {
    "SIGINT": "it was interrupted with Ctrl-C (SIGINT)",
    "SIGTERM": "it was told to end (SIGTERM)",
    "SIGHUP": "its terminal was closed or the connection to it was lost (SIGHUP)",
    "SIGQUIT": "it was told to quit (SIGQUIT)",
    "SIGBREAK": "it was interrupted with Ctrl-Break (SIGBREAK)",
}
_NOT_ASKED_FOR = frozenset({"SIGHUP"})


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the service ends.

    Attributes
    ----------
    reason : str
        A clause: "it was told to end (SIGTERM)".
    wanted : bool
        Whether somebody asked for it; otherwise a run that is on counts as interrupted.
    """

    reason: str
    wanted: bool = True


def ending_of(number: int) -> Ending:
    """What the signal `number` says."""
    name = signal.Signals(number).name
    return Ending(_REASONS[name], name not in _NOT_ASKED_FOR)


def ignore_ending_signals() -> None:
    """Leave all of them to the supervisor."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def answer_ending_signals(
    answer: Callable[[int, FrameType | None], Any], always: Collection[int] = (signal.SIGINT, signal.SIGTERM)
) -> dict[int, Any]:
    """Have `answer` called for each of them, but for those that are ignored and not among `always`.

    Returns
    -------
    dict
        The handlers before, to be set again.
    """
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    answered: dict[int, Any] = {
        number: old for number, old in before.items() if number in always or old is not signal.SIG_IGN
    }
    for number in answered:
        signal.signal(number, answer)
    return answered
