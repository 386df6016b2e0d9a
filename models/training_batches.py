"""Batches of a training, drawn ahead of the network by threads."""

from __future__ import annotations

import queue
import threading
from typing import Any

import numpy as np

from models.networks import Architecture
from models.networks.recipe import Recipe
from models.synthesis import PatternTable, SceneSettings, draw_frame
from models.training_scene import scenes_by_size
from models.training_settings import TrainingSettings

__all__ = ["BatchQueue"]


class BatchQueue:
    """Prepared batches, drawn ahead by threads. Architectures that take patches get frames of one size.

    Parameters
    ----------
    network : Architecture
        Prepares the batches.
    table : PatternTable
    scene : SceneSettings
        Contents of the smallest frames.
    settings : TrainingSettings
        Seed, and number of threads.
    recipe : Recipe
        Frames of a batch.
    start : int
        Steps before this training, after a checkpoint; part of the seed.
    """

    def __init__(
        self,
        network: Architecture,
        table: PatternTable,
        scene: SceneSettings,
        settings: TrainingSettings,
        recipe: Recipe,
        start: int,
    ) -> None:
        kinds = scenes_by_size(scene, recipe.batch) if recipe.samples_per_frame == 1 else [(scene, recipe.batch)]
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=4)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._draw,
                args=(network, table, kinds, np.random.default_rng([settings.seed, start, i])),
                daemon=True,
            )
            for i in range(settings.workers)
        ]
        for thread in self._threads:
            thread.start()

    def _draw(
        self,
        network: Architecture,
        table: PatternTable,
        kinds: list[tuple[SceneSettings, int]],
        rng: np.random.Generator,
    ) -> None:
        while not self._stop.is_set():
            try:
                scene, batch = kinds[rng.integers(len(kinds))]
                prepared = network.prepare([draw_frame(table, scene, rng) for _ in range(batch)])
            except Exception as error:
                self._put(error)
                raise
            self._put(prepared)

    def _put(self, item: Any) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def next(self) -> Any:
        """Wait for the next batch; an exception of a thread is raised here."""
        item = self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """End the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
