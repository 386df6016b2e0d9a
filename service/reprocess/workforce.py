"""Who computes the steps of reprocessings: this process, one after the other; `dask_workforce` has the other one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

from bathyscope_errors import BathyscopeError
from service.reprocess import steps
from service.reprocess.recipe import Recipe
from service.reprocess.steps import Note
from service.reprocess.work_folder import LINK, light_step, localize_step

__all__ = ["InThisProcess", "Outcome", "Step", "StepFunction", "Tick", "Workforce", "steps_of"]


StepFunction: TypeAlias = Callable[[str, int, Note | None], None]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a reprocessing.

    Attributes
    ----------
    folder : the work folder
    name : of the step in it
    function, block : it is ``function(str(folder), block, note)``
    after : names of the steps of the same folder that must be done before
    frames : number of frames that it takes
    """

    folder: Path
    name: str
    function: StepFunction
    block: int
    after: tuple[str, ...]
    frames: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step that ended: done, or with the error for which it failed."""

    step: Step
    error: BathyscopeError | None = None


Tick: TypeAlias = Callable[[Step, int], None]
"""Receives a step that goes on, and how many of its frames are done."""


class Workforce(Protocol):
    """Computes steps."""

    @property
    def dashboard(self) -> str | None:
        """Address of a page that shows the work; None where there is none."""

    def run(self, wanted: Sequence[Step], tick: Tick) -> Iterator[Outcome]:
        """Compute steps, those of the first run before those of later ones; give each when it ends."""


class InThisProcess:
    """Computes the steps one after the other."""

    dashboard: str | None = None

    def run(self, wanted: Sequence[Step], tick: Tick) -> Iterator[Outcome]:
        """See `Workforce`. After a failure the other steps of the same folder are left out."""
        failed: set[Path] = set()
        for step in wanted:
            if step.folder in failed:
                continue
            try:
                step.function(str(step.folder), step.block, partial(tick, step))
            except BathyscopeError as error:
                failed.add(step.folder)
                yield Outcome(step, error)
            else:
                yield Outcome(step)


def steps_of(folder: Path, recipe: Recipe) -> list[Step]:
    """All steps of a reprocessing, in an order in which they can be computed."""
    found: list[Step] = []
    follows = recipe.static_light != "off"
    for block in recipe.blocks:
        after: tuple[str, ...] = ()
        if follows:
            before = (light_step(block.number - 1),) if block.number else ()
            found.append(Step(folder, light_step(block.number), steps.follow_light, block.number, before, block.rows))
            after = (light_step(block.number),)
        found.append(Step(folder, localize_step(block.number), steps.localize, block.number, after, block.rows))
    localized = tuple(localize_step(block.number) for block in recipe.blocks)
    return [*found, Step(folder, LINK, steps.link, 0, localized, recipe.frames)]
