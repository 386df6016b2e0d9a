"""`bathyscope retention`: delete runs or recordings by the rules of the settings, or say what would be deleted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.files.retention import RetentionPlan
    from service.settings import Settings

__all__ = ["run"]


def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="BATHYSCOPE_CONFIG", help="Settings (TOML).")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="<path>", help="Data directory.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write what was deleted, or would be.")
    ] = None,
) -> None:
    """Delete runs or recordings by age and space, as the settings `retention` say."""
    from dataclasses import asdict

    from models.errors import DataError
    from service.commands.console import result
    from service.files.outputs import check_json, write_json
    from service.settings import load_settings

    check_json(json_file)
    settings = load_settings(config, {"data_dir": data})
    if not settings.retention.is_set:
        raise DataError(
            "The settings have no rule of retention, so nothing would be deleted.",
            "Set retention.keep_days, retention.most_gb or retention.free_gb in the settings file.",
        )
    plan = _work(settings, dry_run=dry_run)
    verb = "would be deleted" if dry_run else "deleted"
    for item in plan.delete:
        what = {"run": "run", "recording": "recording of run", "local": "local files of run"}[item.part]
        result(f"{verb}: {what} {item.run_id} ({item.gb:.2f} GB): {item.reason}")
    for kept in plan.keep:
        result(f"kept: run {kept.run_id}: {kept.reason}")
    freed = sum(item.gb for item in plan.delete)
    result(f"{len(plan.delete)} {verb}, {freed:.2f} GB; {plan.recordings_gb:.2f} GB of recordings before.")
    if json_file is not None:
        write_json(json_file, {"dry_run": dry_run, **asdict(plan)})


def _work(settings: Settings, *, dry_run: bool) -> RetentionPlan:
    from contextlib import closing

    import filelock

    from models.errors import DataError
    from service.files.retention import apply_retention, plan_retention
    from service.files.run_removal import RunRemover, nobody
    from service.store.store import Store

    if not settings.data_dir.is_dir():
        raise DataError(f"There is no data directory {settings.data_dir}.", "Name another one with --data.")
    lock = filelock.FileLock(settings.data_dir / ".lock", blocking=False)
    with closing(Store.open(settings.database)) as store:
        copied = settings.copy_off.url is not None
        remover = RunRemover(store, settings.data_dir, nobody)
        try:
            lock.acquire()
        except filelock.Timeout:
            if not dry_run:
                raise DataError(
                    f"A service runs on {settings.data_dir}, and only it knows which runs are in use.",
                    "It applies the rules itself every ten minutes; POST /api/v1/retention does it now. "
                    "--dry-run works beside it.",
                ) from None
            return plan_retention(store, settings.data_dir, settings.retention, remover, copied=copied)
        try:
            store.migrate()
            plan = plan_retention(store, settings.data_dir, settings.retention, remover, copied=copied)
            if dry_run:
                return plan
            plan = apply_retention(plan, remover, store, settings.data_dir)
            for _ in remover.work():
                pass
            left = [removal.run_id for removal in store.removals.pending()]
            if left:
                raise DataError(
                    f"Files of run {', '.join(left)} could not be deleted.",
                    "Close the programs that have them open, and correct their permissions; then repeat the command.",
                )
            return plan
        finally:
            lock.release()
