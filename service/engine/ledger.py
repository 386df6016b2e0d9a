"""The ledger of a run: counts of exposed, lost, recorded and analysed frames, which balance at every instant.

    exposed = grabbed + lost
    grabbed = recorded + unrecorded + waiting for the recorder (when recording)
    grabbed = analysed + deferred + skipped + in flight

A frame counts as recorded or analysed when the database has it; until then it
is in flight. A frame whose results could not be stored becomes deferred or
skipped, like a frame that was too late for the analysis.

Lost frames are counted from gaps in the camera's own image numbers, because a
driver may clear its buffer without an error. A deferred frame has no results
in the database and is in the recording or with the recorder; a skipped one is
not recorded. A deferred frame that could not be written becomes skipped, so at
the end of a run every deferred frame can be read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass

__all__ = ["Ledger", "LedgerCounts"]


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """All counts at one moment, in frames.

    Attributes
    ----------
    exposed : according to the camera's image numbers
    grabbed : fetched from the driver
    lost : exposed, but never fetched
    recorded : written, and readable by others
    unrecorded : not written although the run is recorded
    analysed : localized, tracked and stored
    deferred : recorded or with the recorder, to be analysed later
    skipped : neither analysed nor recorded
    in_flight : grabbed, and still on the way through the analysis into the database
    """

    exposed: int = 0
    grabbed: int = 0
    lost: int = 0
    recorded: int = 0
    unrecorded: int = 0
    analysed: int = 0
    deferred: int = 0
    skipped: int = 0
    in_flight: int = 0

    @property
    def balances(self) -> bool:
        """Whether every frame is counted once."""
        return (
            min(asdict(self).values()) >= 0
            and self.exposed == self.grabbed + self.lost
            and self.grabbed == self.analysed + self.deferred + self.skipped + self.in_flight
            and self.recorded + self.unrecorded <= self.grabbed
        )

    def as_dict(self) -> dict[str, int]:
        """Plain values for messages and database."""
        return asdict(self)


@dataclass(slots=True)
class _Fate:
    """State of a frame that is still in the analysis or with the recorder."""

    analysing: bool = True
    recording: bool = False
    recorded: bool = False
    deferred: bool = False


class Ledger:
    """Counts frames as the stages report them. Every method may be called from any thread.

    Frames in flight have a counter of their own, which rises when a frame is
    grabbed and falls when its results are stored or given up; so a frame that
    vanishes between two stages is noticed. The image number of a frame is kept
    until both analysis and recorder have reported it; the number of these frames
    is limited by the queues. A stage that reports a frame twice, or an unknown
    frame, gets a ValueError.

    Parameters
    ----------
    recording : bool
        Whether each grabbed frame goes to a recorder too.
    """

    def __init__(self, *, recording: bool = False) -> None:
        self._recording = recording
        self._lock = threading.Lock()
        self._undecided: dict[int, _Fate] = {}
        self._next_index = 0
        self._grabbed = 0
        self._lost = 0
        self._recorded = 0
        self._unrecorded = 0
        self._analysed = 0
        self._deferred = 0
        self._skipped = 0
        self._in_flight = 0

    def grab(self, index: int) -> int:
        """Count a fetched frame, which enters analysis and recorder; return the number of frames lost just before it.

        Parameters
        ----------
        index : int
            The camera's image number, counting from 0.

        Raises
        ------
        ValueError
            When the number does not rise: the camera restarted, and the number of lost frames is unknown.
        """
        with self._lock:
            gap = index - self._next_index
            if gap < 0:
                raise ValueError(f"image number {index} came after {self._next_index - 1}; they must rise")
            self._next_index = index + 1
            self._grabbed += 1
            self._lost += gap
            self._in_flight += 1
            self._undecided[index] = _Fate(recording=self._recording)
            return gap

    def analyse(self, indices: Iterable[int]) -> None:
        """Count frames whose results are in the database.

        Raises
        ------
        ValueError
            When a frame is not in the analysis.
        """
        with self._lock:
            for index in indices:
                self._leave_analysis(index)
                self._analysed += 1

    def turn_away(self, indices: Iterable[int]) -> None:
        """Count frames that are not analysed now: deferred when they are recorded or with the recorder, else skipped.

        Raises
        ------
        ValueError
            When a frame is not in the analysis.
        """
        with self._lock:
            for index in indices:
                fate = self._leave_analysis(index)
                fate.deferred = fate.recording or fate.recorded
                self._deferred += fate.deferred
                self._skipped += not fate.deferred

    def record(self, indices: Iterable[int]) -> None:
        """Count frames that were written and can be read.

        Raises
        ------
        ValueError
            When a frame is not with the recorder.
        """
        with self._lock:
            for index in indices:
                self._leave_recorder(index).recorded = True
                self._recorded += 1

    def leave_unrecorded(self, indices: Iterable[int]) -> None:
        """Count frames of a recorded run that were not written; deferred ones become skipped.

        Raises
        ------
        ValueError
            When a frame is not with the recorder.
        """
        with self._lock:
            for index in indices:
                late = self._leave_recorder(index).deferred
                self._unrecorded += 1
                self._deferred -= late
                self._skipped += late

    def withdraw(self, frames: int, deferred: int) -> None:
        """Count recorded frames that cannot be read any more; `deferred` of them are not analysed."""
        with self._lock:
            self._recorded -= frames
            self._unrecorded += frames
            self._deferred -= deferred
            self._skipped += deferred

    def counts(self, *, storing: int = 0) -> LedgerCounts:
        """All counts at this moment; with `storing`, as they will be when that many frames in flight are stored."""
        with self._lock:
            return LedgerCounts(
                exposed=self._next_index,
                grabbed=self._grabbed,
                lost=self._lost,
                recorded=self._recorded,
                unrecorded=self._unrecorded,
                analysed=self._analysed + storing,
                deferred=self._deferred,
                skipped=self._skipped,
                in_flight=self._in_flight - storing,
            )

    def _leave_analysis(self, index: int) -> _Fate:
        fate = self._undecided.get(index)
        if fate is None or not fate.analysing:
            raise ValueError(f"frame {index} left the analysis, and was not in it")
        self._in_flight -= 1
        fate.analysing = False
        self._forget_decided(index, fate)
        return fate

    def _leave_recorder(self, index: int) -> _Fate:
        fate = self._undecided.get(index)
        if fate is None or not fate.recording:
            raise ValueError(f"frame {index} left the recorder, and was not with it")
        fate.recording = False
        self._forget_decided(index, fate)
        return fate

    def _forget_decided(self, index: int, fate: _Fate) -> None:
        if not (fate.analysing or fate.recording):
            del self._undecided[index]
