from __future__ import annotations

from pathlib import Path

from service.files.retention import Candidate, plan_retention, planned
from service.files.run_removal import RunRemover, nobody
from service.settings import RetentionPart
from service.store.removals import Removable
from service.store.store import Store

GB = 1_000_000_000
DAY_S = 86_400.0
NOW_S = 100 * DAY_S


def candidate(day: int, gb: float = 1.0, use: str | None = None, catches_up: bool = False) -> Candidate:
    recording = f"recordings/{day}.ome.zarr" if gb else None
    run = Removable(f"day-{day}", "", day * DAY_S, recording, catches_up)
    return Candidate(run, int(gb * GB), use)


def chosen(candidates: list[Candidate], **rules: object) -> list[str]:
    found = planned(candidates, RetentionPart.model_validate(rules), NOW_S, 0)
    return [item.run_id for item in found.delete]


DAYS = [candidate(day) for day in (10, 50, 90)]


def test_without_a_rule_nothing_is_deleted() -> None:
    assert chosen(DAYS) == []
    assert not RetentionPart().is_set


def test_age_counts_from_the_end() -> None:
    assert chosen(DAYS, keep_days=30) == ["day-10", "day-50"]
    assert chosen(DAYS, keep_days=50) == ["day-10"]  # exactly 50 days old is not older


def test_space_of_all_recordings_deletes_the_oldest_first() -> None:
    assert chosen(DAYS, most_gb=3) == []
    assert chosen(DAYS, most_gb=2.5) == ["day-10"]
    assert chosen(DAYS, most_gb=0.5) == ["day-10", "day-50", "day-90"]


def test_enough_free_space_deletes_nothing() -> None:
    assert planned(DAYS, RetentionPart(free_gb=5), NOW_S, 5 * GB).delete == []


def test_free_space_counts_what_is_freed() -> None:
    found = planned(DAYS, RetentionPart(free_gb=6.5), NOW_S, 5 * GB)
    assert [item.run_id for item in found.delete] == ["day-10", "day-50"]
    assert "5.0 GB are free, and 6.5 GB are to be free" in found.delete[0].reason
    assert (found.recordings_gb, found.free_gb) == (3.0, 5.0)


def test_runs_without_a_recording_are_deleted_by_age_only_when_whole_runs_are() -> None:
    some = [candidate(10, gb=0), candidate(50)]
    assert chosen(some, keep_days=30) == ["day-50"]
    assert chosen(some, keep_days=30, what="run") == ["day-10", "day-50"]
    assert chosen(some, most_gb=0.5, what="run") == ["day-50"]


def test_a_run_in_use_is_kept_and_another_goes_instead() -> None:
    some = [candidate(10, use="job 7 (export) uses it"), candidate(20, catches_up=True), candidate(50), candidate(90)]
    found = planned(some, RetentionPart(most_gb=3.5), NOW_S, 0)
    assert [item.run_id for item in found.delete] == ["day-50"]
    assert [(item.run_id, item.reason) for item in found.keep] == [
        ("day-10", "job 7 (export) uses it"),
        ("day-20", "its deferred frames are not analysed yet, or its tracks not smoothed"),
    ]


def test_a_running_run_is_not_considered(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    store.runs.create(model_id="m", record=True, recording="recordings/a.ome.zarr", started_at=1.0)
    ended = store.runs.create(model_id="m", record=True, recording="recordings/b.ome.zarr", started_at=1.0)
    store.runs.finish(ended.id)
    (tmp_path / "recordings" / "b.ome.zarr").mkdir(parents=True)
    (tmp_path / "recordings" / "b.ome.zarr" / "x").write_bytes(bytes(1000))
    plan = plan_retention(store, tmp_path, RetentionPart(keep_days=1e-9), RunRemover(store, tmp_path, nobody))
    assert [item.run_id for item in plan.delete] == [ended.id]
    store.close()
