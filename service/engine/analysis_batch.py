"""What goes into the analysis of a run and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from models.model_card import ModelCard
from models.tables import TrackEvents
from service.analysis.frame_localizer import LocalizesFrames
from service.analysis.frame_tracker import FrameResult
from service.engine.fit_time import FitCost

__all__ = ["AnalysisBatch", "AnalysisModel", "AnalysisOutputs"]


@dataclass(frozen=True, slots=True)
class AnalysisBatch:
    """Results of about 100 ms, all made by one model, and the merges and splits that are certain with them."""

    results: tuple[FrameResult, ...]
    model: ModelCard
    events: TrackEvents = field(default_factory=TrackEvents.empty)

    @property
    def numbers(self) -> list[int]:
        """Image numbers of its frames."""
        return [result.frame for result in self.results]


@dataclass(frozen=True, slots=True)
class AnalysisModel:
    """A model in memory, as the analysis uses it.

    Attributes
    ----------
    localizer : finds the emitters; warmed up
    description : of the model
    fit_cost : time of a fit; None: not measured
    """

    localizer: LocalizesFrames
    description: ModelCard
    fit_cost: FitCost | None = None


@dataclass(frozen=True, slots=True)
class AnalysisOutputs:
    """Functions that receive the results of the analysis; none of them may block.

    Attributes
    ----------
    show : receives each result at once
    keep : receives each batch of results
    turn_away : receives the image numbers of frames that are not analysed because the analysis failed
    """

    show: Callable[[FrameResult], None]
    keep: Callable[[AnalysisBatch], None]
    turn_away: Callable[[Sequence[int]], None]
