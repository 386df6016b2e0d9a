"""The published experiments by name: each a module with `run(bench)`, which gives tables, and `draw`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

from evaluation.experiments.benchmark import Bench
from evaluation.scores.scoring import Row

__all__ = ["ALWAYS_HIDDEN", "EXPERIMENTS", "NOT_OF_ALL", "Experiment", "experiment_named"]


class Experiment(Protocol):
    """What an experiment's module offers."""

    def run(self, bench: Bench) -> dict[str, list[Row]]:
        """Measure; tables by name, one CSV file each."""

    def draw(self, tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
        """Draw the tables into PNG files in `folder`; the caption says what was simulated and how."""


EXPERIMENTS = {
    "snr": "evaluation.experiments.snr",
    "density": "evaluation.experiments.density",
    "depth": "evaluation.experiments.depth",
    "psf": "evaluation.experiments.measured_psf",
    "cells": "evaluation.experiments.cells",
    "tracking": "evaluation.experiments.tracking",
    "brownian": "evaluation.experiments.brownian",
    "isolated": "evaluation.experiments.isolated",
    "ghosts": "evaluation.experiments.ghosts",
    "stacked": "evaluation.experiments.stacked",
    "resolution": "evaluation.experiments.resolution",
    "training-size": "evaluation.experiments.training_size",
    "adoption": "evaluation.experiments.adoption",
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
