"""The published experiments by name: each a module with `run(benchmark)`, which gives tables, and `draw`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

from evaluation.experiments.benchmark import Benchmark
from evaluation.scores.scoring import Row

__all__ = ["ALWAYS_HIDDEN", "EXPERIMENTS", "NOT_OF_ALL", "Experiment", "experiment_named"]


class Experiment(Protocol):
    """Interface of an experiment's module."""

    def run(self, benchmark: Benchmark) -> dict[str, list[Row]]:
        """Measure; tables by name, one CSV file each."""

    def draw(self, tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
        """Draw the tables into PNG files in `folder`; the caption states the simulated conditions."""


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
    "moving": "evaluation.experiments.moving",
    "training-size": "evaluation.experiments.training_size",
    "adoption": "evaluation.experiments.adoption",
}
"""Module of each experiment, imported when it is run; `all` runs them in this order, the longest last."""


ALWAYS_HIDDEN = ("psf", "ghosts", "adoption")
"""Experiments that always use hidden optics. `psf` needs a difference between measured and computed PSF, `ghosts` needs
aberrations that distinguish the sides of focus, and `adoption` has only a sweep of the other optics."""

NOT_OF_ALL = ("training-size", "adoption")
"""Experiments that run only by name: they need models of their own, or minutes to train them."""


def experiment_named(name: str) -> Experiment:
    """Module of an experiment."""
    return import_module(EXPERIMENTS[name])
