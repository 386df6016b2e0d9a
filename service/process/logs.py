"""Logs: one line per event, as text on a terminal and as JSON elsewhere. Nothing is logged per frame.

Messages of libraries, warnings, and exceptions that end a thread are logged
in the same form, so that every line of a JSON log is JSON.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from types import TracebackType
from typing import Any

import structlog

from service.commands.console import note, protect_streams

__all__ = ["announce", "configure_logs"]

_LIBRARIES = "warning"
"""Lowest level of messages from libraries, at every log level of the service."""

_log = structlog.get_logger(__name__)


def configure_logs(level: str) -> None:
    """Send this process's log to standard error; `level` is ``"debug"``, ``"info"`` or ``"warning"``."""
    protect_streams()
    for_people = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not for_people),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=_lasting(structlog.make_filtering_bound_logger(_number(level))),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = _Handler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [*(other for other in root.handlers if not isinstance(other, _Handler)), handler]
    root.setLevel(_number(_LIBRARIES))
    if for_people:
        return
    warnings.showwarning = _show_warning
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _exception
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_exception


def announce(kind: str, text: str) -> None:
    """Print a text at the terminal. Without a terminal, log it as an event."""
    if sys.stderr.isatty():
        note(text)
    else:
        _log.info(kind, message=text)


def _lasting(logger: type[Any]) -> type[Any]:
    """The same logger, but a line that cannot be written (no memory, no file descriptor) raises no exception."""

    class Lasting(logger):  # type: ignore[misc]
        def _proxy_to_logger(self, *arguments: Any, **named: Any) -> Any:
            try:
                return super()._proxy_to_logger(*arguments, **named)
            except Exception:  # noqa: BLE001  see above
                return None

    return Lasting


class _Handler(logging.Handler):
    """Writes messages of libraries to the current standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr)
        except Exception:  # noqa: BLE001  a line that cannot be written must not end the work that logs it
            self.handleError(record)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    _log.warning("warning", message=str(message), category=category.__name__, place=f"{filename}:{lineno}")


def _exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _log.error("process_failed", exc_info=(kind, error, trace))


def _thread_exception(lost: threading.ExceptHookArgs) -> None:
    if lost.exc_value is not None:
        thread = None if lost.thread is None else lost.thread.name
        _log.error("thread_failed", thread=thread, exc_info=(lost.exc_type, lost.exc_value, lost.exc_traceback))
