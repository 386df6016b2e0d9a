"""A localizer in a process of its own.

A network call consists of some two hundred small operations, and after each of
them its thread waits for Python's global lock. Beside threads that run Python
code, the fit of the images above all, a call takes twice its time. In its own
process it does not wait. Frames go there through shared memory.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.background.mode import StaticLightMode
from models.background.static_light import StaticLight
from models.localization import Localizer
from models.tables import Localizations
from models.tracking.image_tracker import ImageModel
from service.process.signals import ignore_ending_signals
from service.protocol.errors import EngineRefusal

__all__ = ["LocalizerProcess"]

_BEFORE_JOIN = 10
"""Exit priority: the pipe is closed before multiprocessing waits for the process, which ends at the end of its pipe."""


class LocalizerProcess:
    """Localizes in another process; everything else of the localizer stays in this one.

    The process ends with the last reference to this object.

    Parameters
    ----------
    localizer : Localizer
        Of the model, in this process.
    load : callable
        Returns the same localizer in the other process; it can be pickled.
    shape : (int, int)
        Rows and columns of a frame.
    batch : int
        Most frames of a call.

    Raises
    ------
    EngineRefusal
        When the process does not start.
    """

    def __init__(self, localizer: Localizer, load: Callable[[], Localizer], shape: tuple[int, int], batch: int) -> None:
        self.shape, self.batch = shape, batch
        self._localizer = localizer
        self._lock = threading.Lock()
        self._ready = False
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        try:
            memory: Any = context.RawArray(ctypes.c_uint16, batch * shape[0] * shape[1])
            self._process = context.Process(
                target=_serve, args=(load, memory, shape, batch, theirs), name="bathyscope-localizer", daemon=True
            )
            self._process.start()
        except (OSError, MemoryError) as error:
            self._pipe.close()
            raise EngineRefusal(
                "unavailable",
                f"The process of the network did not start: {error or type(error).__name__}",
                "Close other programs, or set engine.network_process to false.",
            ) from error
        finally:
            theirs.close()
        self._frames = np.frombuffer(memory, np.uint16).reshape(batch, *shape)
        Finalize(self, self._pipe.close, exitpriority=_BEFORE_JOIN)

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can be used."""
        return not self._pipe.closed and self._process.is_alive()

    @property
    def threshold(self) -> float:
        """See `LocalizesFrames`."""
        return self._localizer.threshold

    @property
    def image_model(self) -> ImageModel | None:
        """See `LocalizesFrames`."""
        return self._localizer.image_model

    def static_light(self, mode: StaticLightMode) -> StaticLight | None:
        """See `LocalizesFrames`."""
        return self._localizer.static_light(mode)

    def choose_threads(self, period_s: float, most: int, others: int = 0) -> None:
        """See `Localizer.choose_threads`."""
        self._call("choose_threads", self.shape, period_s, most, others)

    def use_threads(self, count: int) -> None:
        """See `Localizer.use_threads`."""
        self._call("use_threads", count)

    def localize(
        self, frames: NDArray[np.uint16], frame_numbers: NDArray[np.int64], least: float | None = None
    ) -> Localizations:
        """See `LocalizesFrames`.

        Raises
        ------
        RuntimeError
            When the process has ended.
        """
        found: Localizations = self._call("localize", frame_numbers, least, frames=frames)
        return found

    def _call(self, name: str, *arguments: Any, frames: NDArray[np.uint16] | None = None) -> Any:
        with self._lock:
            if not self._ready:
                self._answer()
                self._ready = True
            if frames is not None:
                self._frames[: len(frames)] = frames
            with suppress(OSError):  # it has ended, which the answer says
                self._pipe.send((name, *arguments))
            return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._pipe.close()
            self._process.join()
            status = self._process.exitcode
            cause = f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
            raise RuntimeError(f"the process of the network ended, with {cause}") from None
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _serve(load: Callable[[], Localizer], memory: Any, shape: tuple[int, int], batch: int, pipe: Connection) -> None:
    """Answer until the pipe ends; an exception is the answer to the request that caused it."""
    ignore_ending_signals()
    frames = np.frombuffer(memory, np.uint16).reshape(batch, *shape)
    with suppress(EOFError, OSError):  # the engine has ended, or has no more use for this model
        try:
            localizer = load()
            localizer.warm_up(shape, batch)
        except Exception as error:  # noqa: BLE001  it is the answer to the first request
            pipe.send(error)
            return
        pipe.send(None)
        while True:
            name, *arguments = pipe.recv()
            if name == "localize":
                arguments.insert(0, frames[: len(arguments[0])])
            try:
                answer = getattr(localizer, name)(*arguments)
            except Exception as error:  # noqa: BLE001  it ends the analysis in the engine
                answer = error
            pipe.send(answer)
