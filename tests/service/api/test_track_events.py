"""Merges and splits of a run over HTTP, from the real application."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet
import pytest

from models.tables import TrackEvents
from service.settings import Settings
from service.store.result_batch import ResultBatch
from service.store.store import Store
from tests.service.api_peer import Server, filled_store, link
from tests.service.store_samples import frame_times, recompute, sample_batch, sample_events, sample_ledger


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[httpx.Client, Store, str]]:
    store, _ = filled_store(tmp_path)
    run = store.runs.create(model_id="reference", record=False).id
    for batch in range(2):
        events = sample_events(5, first=5 * batch)
        store.append(run, ResultBatch(*sample_batch(batch), frame_times(batch), events=events), sample_ledger(batch))
    with link() as address:
        server = Server(Settings(data_dir=tmp_path), address, store, Path("none"))
        with httpx.Client(base_url=f"http://{server.host}/api/v1", timeout=30) as client:
            yield client, store, run
        server.close()
    store.close()


def test_pages_stay_on_their_revision(served: tuple[httpx.Client, Store, str]) -> None:
    client, store, run = served
    path = f"/runs/{run}/track-events"
    response = client.get(path, params={"limit": 6})
    first = response.json()
    assert response.headers["bathyscope-revision"] == "1"
    assert (first["revision"], [item["id"] for item in first["items"]]) == (1, [9, 8, 7, 6, 5, 4])
    assert set(first["items"][0]) == {"id", *TrackEvents.names()}
    assert first["items"][0] == {
        "id": 9, "kind": "split", "frame": 9, "t_s": 9.5, "track_id": 9, "other_id": 9, "x_um": 9.5, "y_um": 9.5,
        "z_um": 9.5, "distance_um": 9.5, "distance_sigma": 9.5, "chance": 9.5,
    }  # fmt: skip
    recompute(store, run, 0.0, (1,), 1)
    rest = client.get(path, params={"cursor": first["next"]}).json()
    assert (rest["revision"], [item["id"] for item in rest["items"]], rest["next"]) == (1, [3, 2, 1, 0], None)
    assert client.get(path).json() == {"revision": 2, "items": [], "next": None}
    assert client.get(path, params={"revision": 3}).status_code == 404
    assert client.get(path, params={"revision": 0}).status_code == 422
    assert client.get(path, params={"kind": "merge"}).status_code == 422
    assert client.get("/runs/none/track-events").status_code == 404


def test_files_have_all_events(served: tuple[httpx.Client, Store, str]) -> None:
    client, _, run = served
    path = f"/runs/{run}/track-events"
    text = client.get(path, headers={"Accept": "text/csv"})
    assert text.headers["content-disposition"] == f'attachment; filename="{run}-track-events.csv"'
    rows = list(csv.DictReader(io.StringIO(text.text)))
    assert (list(rows[0]), [int(row["frame"]) for row in rows]) == ([*TrackEvents.names()], [*range(10)])
    assert [row["kind"] for row in rows[:2]] == ["merge", "split"]
    table = pyarrow.parquet.read_table(
        io.BytesIO(client.get(path, headers={"Accept": "application/vnd.apache.parquet"}).content)
    )
    assert table.column("kind").to_pylist() == ["merge", "split"] * 5
    page = client.get(path, params={"limit": 3}, headers={"Accept": "text/csv"})
    assert len(page.text.splitlines()) == 1 + 3
    assert "cursor=1.7" in page.links["next"]["url"]


@pytest.mark.parametrize("accept", ["text/csv", "application/vnd.apache.parquet"])
def test_a_run_without_events_has_an_empty_table(served: tuple[httpx.Client, Store, str], accept: str) -> None:
    client, store, _ = served
    run = store.runs.create(model_id="reference", record=False).id
    found = client.get(f"/runs/{run}/track-events", headers={"Accept": accept})
    assert found.status_code == 200
    if accept == "text/csv":
        assert found.text.splitlines() == [",".join(TrackEvents.names())]
    else:
        assert pyarrow.parquet.read_table(io.BytesIO(found.content)).column_names == [*TrackEvents.names()]
