"""Reprocessings of one or many runs: what is not done yet is computed, and each run is finished by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bathyscope_errors import BathyscopeError
from service.reprocess.recipe import Recipe
from service.reprocess.work_folder import LINK, WorkFolder, localize_step
from service.reprocess.workforce import Step, Workforce, steps_of

__all__ = ["Assignment", "work_through"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One run to reprocess.

    Attributes
    ----------
    folder : WorkFolder
        With the recipe.
    recipe : Recipe
    finish : callable
        Puts the tables of the folder where they belong, when all steps are done.
    """

    folder: WorkFolder
    recipe: Recipe
    finish: Callable[[], None]


def work_through(
    assignments: Sequence[Assignment], workforce: Workforce, report: Callable[[int, int], None]
) -> Mapping[str, BathyscopeError]:
    """Compute all runs. The failure of one does not end the others.

    Parameters
    ----------
    assignments : sequence of Assignment
    workforce : Workforce
    report : callable
        Receives how many frames are done, and of how many. A frame counts when it is localized and when it is linked.

    Returns
    -------
    dict
        Error of each run that failed.
    """
    places = {each.folder.path: each for each in assignments}
    progress = _Progress(places)
    errors: dict[str, BathyscopeError] = {}
    missing = [step for each in assignments for step in _missing(each, progress)]
    report(progress.done, progress.total)

    def tick(step: Step, done: int) -> None:
        if progress.note(step, done):
            report(progress.done, progress.total)

    ended = {path for path, each in places.items() if not any(step.folder == path for step in missing)}
    for path in ended:
        _finish(places[path], errors)
    for outcome in workforce.run(missing, tick):
        path = outcome.step.folder
        run = places[path].recipe.run
        if outcome.error is not None:
            errors.setdefault(run, outcome.error)
            continue
        progress.add(outcome.step)
        if outcome.step.name == LINK:
            _finish(places[path], errors)
        report(progress.done, progress.total)
    return errors


def _missing(assignment: Assignment, progress: _Progress) -> list[Step]:
    """Steps of a run that are not done."""
    found = []
    for step in steps_of(assignment.folder.path, assignment.recipe):
        if assignment.folder.record(step.name) is None:
            found.append(step)
        else:
            progress.add(step)
    return found


def _finish(assignment: Assignment, errors: dict[str, BathyscopeError]) -> None:
    try:
        assignment.finish()
    except BathyscopeError as error:
        errors[assignment.recipe.run] = error


class _Progress:
    """Frames that are localized, and frames that are linked."""

    def __init__(self, places: Mapping[Path, Assignment]) -> None:
        self.total = 2 * sum(each.recipe.frames for each in places.values())
        self._ended = 0
        self._open: dict[tuple[Path, str], int] = {}

    @property
    def done(self) -> int:
        """Frames until now."""
        return self._ended + sum(self._open.values())

    def add(self, step: Step) -> None:
        """Count a step that is done."""
        self._open.pop((step.folder, step.name), None)
        if _counts(step):
            self._ended += step.frames

    def note(self, step: Step, done: int) -> bool:
        """Count what is done of a step that goes on; whether that is new."""
        key = step.folder, step.name
        if not _counts(step) or self._open.get(key, 0) == done:
            return False
        self._open[key] = done
        return True


def _counts(step: Step) -> bool:
    return step.name in (LINK, localize_step(step.block))
