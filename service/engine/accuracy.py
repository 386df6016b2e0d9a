"""Accuracy of live localizations and tracks, where the truth is known: simulated, or a movie with a table.

Scoring has its own stage and thread, behind the database: when it fails, the
accuracy is unknown from then on, and no result is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hardware.microscope import Truth
from models.metrics import Region, Score, score_frame
from models.model_card import ModelCard
from service.engine.analysis_batch import AnalysisBatch
from service.engine.stages import Stage
from service.worker_thread import WorkerThread

__all__ = ["LiveScore", "ScoreThread"]

_PATIENCE_S = 0.25


class LiveScore:
    """Scores frame after frame. Truth outside the field or the model's depth range is ignored.

    Parameters
    ----------
    truth : Truth
        Of the microscope.
    shape : (int, int)
        Rows and columns of the frame.
    """

    def __init__(self, truth: Truth, shape: tuple[int, int]) -> None:
        self._truth = truth
        self._shape = shape
        self._total = Score()
        self._tracks = Score()
        self._frames = 0

    def add(self, batch: AnalysisBatch) -> None:
        """Score the frames of a batch, in the depth range of its model."""
        region = _region(self._shape, batch.model)
        for result in batch.results:
            truth = self._truth(result.frame)[:, 1:4]
            self._total += score_frame(result.found.xyz_um, truth, region=region)
            state = result.state
            places = np.column_stack([state.x_um, state.y_um, state.z_um])
            self._tracks += score_frame(places, truth, region=region)
            self._frames += 1

    def result(self) -> dict[str, Any]:
        """Figures of the localizations so far, None where undefined, those of the tracks, and the number of frames."""
        return {**self._total.as_dict(), "tracks": self._tracks.as_dict(), "frames": self._frames}


def _region(shape: tuple[int, int], model: ModelCard) -> Region:
    rows, columns = shape
    # The centre of the first pixel is 0, so the field begins half a pixel before it.
    x_um, y_um = ((-0.5 * model.pixel_size_um, (side - 0.5) * model.pixel_size_um) for side in (columns, rows))
    return Region(x_um, y_um, model.z_range_um)


class ScoreThread(WorkerThread):
    """Scores the batches of its stage, until the stage has ended.

    Parameters
    ----------
    score : LiveScore
    stage : Stage of AnalysisBatch
    failed : callable
        Receives the exception that ended the scoring; the accuracy is unknown then.
    """

    def __init__(self, score: LiveScore, stage: Stage[AnalysisBatch], failed: Callable[[Exception], None]) -> None:
        super().__init__("score", failed)
        self._score = score
        self._stage = stage

    def work(self) -> None:
        """Score until the stage has ended."""
        while not self._stage.ended:
            for batch in self._stage.take(1, _PATIENCE_S):
                self._score.add(batch)

    def drain(self) -> None:
        """Take the remaining batches without scoring them."""
        while not self._stage.ended:
            self._stage.take(1, _PATIENCE_S)

    def result(self) -> dict[str, Any] | None:
        """The figures so far; None after a failure."""
        return None if self.failure is not None else self._score.result()
