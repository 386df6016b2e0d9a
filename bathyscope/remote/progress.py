"""Progress of long work: a bar on a terminal, one changing line in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Show", "following"]

Show = Callable[[str, float, float | None, str], None]
"""Takes the step, the amount done, the total (None: not known yet) and the unit."""

_EVERY_S = 5.0
"""Time between two plain lines of one step."""


@contextmanager
def following(label: str, *, shown: bool) -> Iterator[Show]:
    """Show the progress of something that has steps, each with its own total, while the block runs."""
    if not shown:
        yield lambda step, done, total, unit: None
    elif (display := _notebook_display()) is not None:
        yield _notebook(label, display)
    elif sys.stderr.isatty():
        with _bar(label) as show:
            yield show
    else:
        yield _plain(label)


def _notebook_display() -> Any:
    """The function `display` of IPython when a notebook runs this code."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from IPython.display import display

    return display


def _notebook(label: str, display: Any) -> Show:
    handle = display({"text/plain": label}, raw=True, display_id=True)

    def show(step: str, done: float, total: float | None, unit: str) -> None:
        share = 0.0 if not total else min(done / total, 1.0)
        filled = round(30 * share)
        bar = f"[{'#' * filled}{'.' * (30 - filled)}] "
        handle.update({"text/plain": bar + _line(label, step, done, total, unit)}, raw=True)

    return show


@contextmanager
def _bar(label: str) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task, current = bar.add_task(label, total=None, text=""), ""

        def show(step: str, done: float, total: float | None, unit: str) -> None:
            nonlocal current
            if step != current:
                current = step
                bar.reset(task, total=total, description=f"{label}: {step}")
            bar.update(task, completed=done, total=total, text=_amount(done, total, unit))

        yield show


def _plain(label: str) -> Show:
    last_s, current = 0.0, ""

    def show(step: str, done: float, total: float | None, unit: str) -> None:
        nonlocal last_s, current
        now_s = time.monotonic()
        if step != current or now_s - last_s >= _EVERY_S:
            last_s, current = now_s, step
            print(_line(label, step, done, total, unit), file=sys.stderr, flush=True)

    return show


def _line(label: str, step: str, done: float, total: float | None, unit: str) -> str:
    return f"{label}: {step} {_amount(done, total, unit)}".rstrip()


def _amount(done: float, total: float | None, unit: str) -> str:
    if total is None:
        return f"{done:g} {unit}" if done else ""
    return f"{done:.4g}/{total:.4g} {unit}"
