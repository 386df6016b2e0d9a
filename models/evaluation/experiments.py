"""The published experiments by name: each a module with `run(bench)`, which gives tables, and `draw`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

from models.evaluation.bench import Bench
from models.evaluation.scoring import Row

__all__ = ["ALWAYS_HIDDEN", "EXPERIMENTS", "NOT_OF_ALL", "Experiment", "experiment_named"]


class Experiment(Protocol):
    """What an experiment's module offers."""

    def run(self, bench: Bench) -> dict[str, list[Row]]:
        """Measure; tables by name, one CSV file each."""

    def draw(self, tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
        """Draw the tables into PNG files in `folder`; the caption says what was simulated and how."""


EXPERIMENTS = {
    "snr": "models.evaluation.snr",
    "density": "models.evaluation.density",
    "depth": "models.evaluation.depth",
    "psf": "models.evaluation.measured_psf",
    "cells": "models.evaluation.cells",
    "tracking": "models.evaluation.tracking_patterns",
    "brownian": "models.evaluation.brownian",
    "isolated": "models.evaluation.isolated",
    "ghosts": "models.evaluation.ghosts",
    "stacked": "models.evaluation.stacked",
    "resolution": "models.evaluation.resolution",
    "training-size": "models.evaluation.training_size",
    "adoption": "models.evaluation.adoption",
}
"""Module of each experiment, imported when it is run; `all` runs them in this order, the longest last."""


ALWAYS_HIDDEN = ("psf", "ghosts", "adoption")
"""Experiments on hidden optics whatever is asked for: a measured pattern can only help where the computed one is wrong,
without aberrations nobody could tell the sides of focus apart, and who adopts other optics has only their sweep."""

NOT_OF_ALL = ("training-size", "adoption")
"""Experiments that must be asked for by name: they need models of their own, or minutes to train them."""


def experiment_named(name: str) -> Experiment:
    """Module of an experiment."""
    return import_module(EXPERIMENTS[name])
