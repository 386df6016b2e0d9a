"""Retention: which runs or recordings the rules of the settings delete, and deleting them now."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from service.api.dependencies import RunDeletions
from service.files.retention import Kept, Planned, RetentionPlan
from service.settings import RetentionPart

__all__ = ["router"]

router = APIRouter(prefix="/retention", tags=["retention"])


class RetentionRequest(BaseModel):
    """Whether to delete, or only to say what would be deleted."""

    model_config = ConfigDict(extra="forbid", strict=True)

    dry_run: bool = Field(False, description="Delete nothing.")


class RetentionReport(BaseModel):
    """What the rules ask for, or what was deleted."""

    rules: RetentionPart
    deleted: bool = Field(description="Whether `delete` was deleted; false: it would be.")
    delete: list[Planned] = Field(description="Oldest first, with the reason.")
    keep: list[Kept] = Field(description="Runs that the rules would delete and that are in use, with the reason.")
    recordings_gb: float = Field(description="Space of all recordings before, GB.")
    free_gb: float = Field(description="Free space of their disk before, GB.")


@router.get("")
async def get_retention(deletions: RunDeletions) -> RetentionReport:
    """What the rules of the settings would delete now. Deletes nothing."""
    return _report(deletions.rules, await run_in_threadpool(deletions.plan), deleted=False)


@router.post("")
async def apply_rules(wanted: RetentionRequest, deletions: RunDeletions) -> RetentionReport:
    """Apply the rules now; the service also does so every ten minutes."""
    if wanted.dry_run:
        return await get_retention(deletions)
    plan = await run_in_threadpool(deletions.apply_rules)
    deletions.wake()
    return _report(deletions.rules, plan, deleted=True)


def _report(rules: RetentionPart, plan: RetentionPlan, *, deleted: bool) -> RetentionReport:
    return RetentionReport(
        rules=rules,
        deleted=deleted,
        delete=plan.delete,
        keep=plan.keep,
        recordings_gb=plan.recordings_gb,
        free_gb=plan.free_gb,
    )
