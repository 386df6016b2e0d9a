"""State that the simulated and the replayed microscope share: both exist in software only."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hardware.microscope import MicroscopeError

__all__ = ["SoftwareMicroscope"]


class SoftwareMicroscope(ABC):
    """Base of microscopes without devices: open or closed, idle or running, and without continuous focus.

    Parameters
    ----------
    name : str
        Subject of messages, such as ``"a recording"``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._closed = False

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether a sequence runs."""

    @property
    def continuous_focus(self) -> bool:
        """Never on: there is none."""
        return False

    def set_continuous_focus(self, on: bool) -> None:
        """Accept only that it is off.

        Raises
        ------
        MicroscopeError
            When it is to be switched on.
        """
        if on:
            raise MicroscopeError(
                "settings", f"Continuous focus was asked for, but {self._name} has none.", "Leave it off."
            )

    def _require_open(self) -> None:
        if self._closed:
            raise MicroscopeError("closed", "The microscope has been closed.", "Open it again.")

    def _require_idle(self, purpose: str) -> None:
        self._require_open()
        if self.is_running:
            raise MicroscopeError(
                "busy", f"The camera was asked to {purpose} while a sequence runs.", "Stop the sequence first."
            )
