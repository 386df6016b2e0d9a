"""Which runs or recordings are to be deleted by the rules of the settings: by age, and by space.

The rules are applied to ended runs, oldest first. A run that is in use, or
whose deferred frames are not analysed yet, is kept, and the plan says why.

Where recordings are copied to another place, only local files are deleted for
the rules of recordings, and nothing of a run whose copy is not verified.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.copies.freeing import why_not_freed
from service.files.recording import folder_bytes
from service.files.run_removal import RunRemover
from service.settings import RetentionPart
from service.store.errors import InUse, UnknownItem
from service.store.removals import Removable, RemovalPart
from service.store.store import Store

__all__ = ["Candidate", "Kept", "Planned", "RetentionPlan", "apply_retention", "plan_retention", "planned"]

_GB = 1e9
_DAY_S = 86_400.0

_PATHS: dict[RemovalPart, str] = {"run": "", "recording": "/recording", "local": "/recording/local"}
"""What the audit names, below the run."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ended run with the size of its recording, bytes, and what uses it (None: nothing)."""

    run: Removable
    size: int
    use: str | None


@dataclass(frozen=True, slots=True)
class Planned:
    """A deletion that the rules ask for: `part` of a run, the space that it frees (GB), and the rule as a clause."""

    run_id: str
    name: str
    part: RemovalPart
    gb: float
    reason: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A run that the rules would delete, and why it is kept."""

    run_id: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What the rules ask for.

    Attributes
    ----------
    delete : oldest first
    keep : runs that the rules would delete, and that are in use
    recordings_gb, free_gb : space of all recordings and free space of their disk before the deletion, GB
    """

    delete: list[Planned]
    keep: list[Kept]
    recordings_gb: float
    free_gb: float


def plan_retention(
    store: Store, data_dir: Path, rules: RetentionPart, remover: RunRemover, *, copied: bool = False
) -> RetentionPlan:
    """What the rules ask for now; nothing is deleted. `copied`: whether recordings are copied to another place.

    Raises
    ------
    StoreError
        When the database does not respond.
    """
    candidates = []
    for run in store.removals.removable():
        size = 0 if run.recording is None else folder_bytes(data_dir / run.recording)
        candidates.append(Candidate(run, size, remover.use_of(run.run_id)))
    return planned(candidates, rules, time.time(), shutil.disk_usage(data_dir).free, copied=copied)


def planned(
    candidates: Sequence[Candidate], rules: RetentionPart, now_s: float, free_bytes: int, *, copied: bool = False
) -> RetentionPlan:
    """The plan for these runs, which are given oldest first."""
    total = sum(candidate.size for candidate in candidates)
    used, free = float(total), float(free_bytes)
    delete, keep = [], []
    for candidate in candidates:
        run = candidate.run
        if rules.what == "recording" and (run.recording is None or _is_freed(run)):
            continue
        reason = _reason(candidate, rules, now_s, used, free)
        if reason is None:
            continue
        use = candidate.use
        if use is None and run.catches_up:
            use = "its deferred frames are not analysed yet, or its tracks not smoothed"
        if use is None and copied and run.recording is not None and (run.copy is None or run.copy.state != "verified"):
            use = "its recording has no verified copy yet"
        if use is not None:
            keep.append(Kept(run.run_id, run.name, use))
            continue
        part: RemovalPart = "local" if copied and rules.what == "recording" else rules.what
        delete.append(Planned(run.run_id, run.name, part, round(candidate.size / _GB, 3), reason))
        used, free = used - candidate.size, free + candidate.size
    return RetentionPlan(delete, keep, round(total / _GB, 3), round(free_bytes / _GB, 3))


def apply_retention(plan: RetentionPlan, remover: RunRemover, store: Store, data_dir: Path) -> RetentionPlan:
    """Begin the deletions of a plan; return it with what was deleted, and what came into use meanwhile.

    Parameters
    ----------
    plan : RetentionPlan
    remover : RunRemover
    store : Store
        Gets an audit line of each deletion.
    data_dir : Path
    """
    done, keep = [], list(plan.keep)
    for item in plan.delete:
        try:
            if item.part == "local" and (why := _why_kept(store, item.run_id, data_dir)) is not None:
                keep.append(Kept(item.run_id, item.name, why))
                continue
            remover.remove(item.run_id, item.part, f"retention: {item.reason}")
        except InUse as error:
            keep.append(Kept(item.run_id, item.name, error.problem))
        except UnknownItem:  # deleted meanwhile
            continue
        else:
            done.append(item)
            path = f"/api/v1/runs/{item.run_id}" + _PATHS[item.part]
            store.audit.add("retention", "administer", "", "DELETE", path, item.reason, 204)
    return RetentionPlan(done, keep, plan.recordings_gb, plan.free_gb)


def _is_freed(run: Removable) -> bool:
    return run.copy is not None and run.copy.freed_at is not None


def _why_kept(store: Store, run_id: str, data_dir: Path) -> str | None:
    run = store.runs.get(run_id)
    return None if run.recording is None else why_not_freed(data_dir / run.recording, run.recording_copy)


def _reason(candidate: Candidate, rules: RetentionPart, now_s: float, used: float, free: float) -> str | None:
    """The first rule that asks for the deletion of a run, as a clause; None when no rule does."""
    days = (now_s - candidate.run.ended_s) / _DAY_S
    if rules.keep_days is not None and days > rules.keep_days:
        return f"it ended {days:.1f} days ago, and {rules.keep_days:g} days are kept"
    if not candidate.size:
        return None
    if rules.most_gb is not None and used > rules.most_gb * _GB:
        return f"all recordings have {used / _GB:.1f} GB, and {rules.most_gb:g} GB are kept"
    if rules.free_gb is not None and free < rules.free_gb * _GB:
        return f"{free / _GB:.1f} GB are free, and {rules.free_gb:g} GB are to be free"
    return None
