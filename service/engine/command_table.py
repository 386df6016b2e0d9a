"""Commands of clients: a table of names and methods, and the translation of errors into refusals."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from hardware.microscope import MicroscopeError
from models.errors import DataError
from service.engine.controls import refusal_of
from service.protocol.errors import EngineRefusal
from service.store.errors import StoreError, UnknownItem

__all__ = ["CommandTable"]


class CommandTable:
    """Calls the method of a command.

    Parameters
    ----------
    handlers : dict
        Name of each command, and its method.
    """

    def __init__(self, handlers: dict[str, Callable[..., Any]]) -> None:
        self.handlers = handlers

    def __call__(self, command: str, arguments: dict[str, Any]) -> Any:
        """Run a command and return its result.

        Raises
        ------
        EngineRefusal
            ``not_found`` for an unknown command, ``invalid`` for arguments that do not fit, and the refusal that
            corresponds to an error of microscope, data or database.
        """
        handler = self.handlers.get(command)
        if handler is None:
            raise EngineRefusal("not_found", f"The engine knows no command {command!r}.", "Update the client.")
        try:
            bound = inspect.signature(handler).bind(**arguments)
        except TypeError as error:
            raise EngineRefusal(
                "invalid", f"The arguments of {command} do not fit: {error}.", "Correct them."
            ) from error
        try:
            return handler(*bound.args, **bound.kwargs)
        except MicroscopeError as error:
            raise refusal_of(error) from error
        except DataError as error:
            raise EngineRefusal("invalid", error.problem, error.remedy) from error
        except UnknownItem as error:
            raise EngineRefusal("not_found", error.problem, error.remedy) from error
        except StoreError as error:
            raise EngineRefusal("unavailable", error.problem, error.remedy) from error
