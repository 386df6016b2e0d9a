"""Figures of tracks over HTTP, from the real application."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models.measures import TrackMeasures
from models.tables import Localizations, Tracks
from service.settings import Settings
from service.store.result_batch import ResultBatch
from service.store.store import Store
from tests.service.api_peer import Server, filled_store, link
from tests.service.store_samples import frame_times, sample_ledger

DIFFUSION_UM2_S, FPS = 2.0, 100.0


def _brownian(store: Store) -> str:
    """A run of 4 Brownian tracks of 200 points, with their localizations and other ones far away."""
    rng = np.random.default_rng(3)
    run = store.runs.create(model_id="reference", record=False).id
    walks = rng.normal(0, np.sqrt(2 * DIFFUSION_UM2_S / FPS), (4, 200, 3)).cumsum(axis=1)
    walks += 30 * np.arange(1, 5)[:, None, None]
    for batch in range(20):
        frames = np.arange(10 * batch, 10 * batch + 10)
        places = np.concatenate([walks[:, frames], np.full((1, 10, 3), 500.0)]).reshape(-1, 3)
        measured = places + rng.normal(0, 0.2, places.shape)
        columns: dict[str, Any] = {name: np.full(50, 0.5) for name in Localizations.names()}
        columns |= dict(zip(("x_um", "y_um", "z_um"), measured.T, strict=True))
        columns |= {name: np.full(50, 0.2) for name in ("sigma_x_um", "sigma_y_um", "sigma_z_um")}
        found = Localizations.from_columns(columns | {"frame": np.tile(frames, 5)})
        smooth = places[:40] + rng.normal(0, 0.05, (40, 3))
        points: dict[str, Any] = {name: np.full(40, 0.1) for name in Tracks.names()}
        points |= dict(zip(("x_um", "y_um", "z_um"), smooth.T, strict=True))
        points |= {"track_id": np.repeat(np.arange(1, 5), 10), "frame": np.tile(frames, 4)}
        points |= {"t_s": np.tile(frames, 4) / FPS, "observed": np.ones(40)}
        results = ResultBatch(found, Tracks.from_columns(points), frame_times(batch))
        store.append(run, results, sample_ledger(batch))
    store.runs.finish(run)
    return run


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, str, str]]:
    folder = tmp_path_factory.mktemp("measures")
    store, straight = filled_store(folder)
    brownian = _brownian(store)
    with link() as address:
        server = Server(Settings(data_dir=folder), address, store, Path("none"))
        with httpx.Client(base_url=f"http://{server.host}/api/v1", timeout=30) as client:
            yield client, straight, brownian
        server.close()
    store.close()


def test_figures_of_straight_tracks(served: tuple[httpx.Client, str, str]) -> None:
    """They move along x at 1 µm a frame, and their localizations are exact."""
    client, run, _ = served
    response = client.get(f"/runs/{run}/measures")
    answer = response.json()
    assert response.headers["bathyscope-revision"] == "1"
    assert (answer["revision"], answer["source"], answer["next"]) == (1, "localizations", None)
    assert [item["track_id"] for item in answer["items"]] == [3, 2, 1]
    for item in answer["items"]:
        assert set(item) == {*TrackMeasures.names(), "msd_um2", "msd_standard_error_um2"}
        assert (item["points"], item["observed"]) == (50, 50)
        assert item["displacement_um"] == pytest.approx(49)
        assert item["speed_um_s"] == pytest.approx(100)
        assert item["straightness"] == pytest.approx(1)
        assert [item[f"direction_{axis}"] for axis in "xyz"] == pytest.approx([1, 0, 0])
        assert item["diffusion_um2_s_low"] == 0
        # 50 points with a sigma of 0.25 µm bound the diffusion beside the drift.
        assert item["diffusion_um2_s_high"] < 0.1
        assert len(item["msd_um2"]["x"]) == len(answer["lag_s"])
    assert answer["lag_s"][:2] == pytest.approx([0.01, 0.02])
    ensemble = answer["ensemble"]
    assert ensemble["tracks"] == 3
    assert ensemble["velocity_um_s"]["x"]["value"] == pytest.approx(100)


def test_diffusion_is_measured_on_the_localizations(served: tuple[httpx.Client, str, str]) -> None:
    client, _, run = served
    answer = client.get(f"/runs/{run}/measures").json()
    assert answer["source"] == "localizations"
    for name, each in answer["ensemble"]["diffusion_um2_s"].items():
        assert each["low"] < DIFFUSION_UM2_S < each["high"], name
        assert each["value"] == pytest.approx(DIFFUSION_UM2_S, rel=0.35)  # 4 tracks of 200 steps: 10 % along an axis
    assert answer["ensemble"]["exponent"]["low"] < 1 < answer["ensemble"]["exponent"]["high"]


def test_pages(served: tuple[httpx.Client, str, str]) -> None:
    client, _, run = served
    first = client.get(f"/runs/{run}/measures?limit=3").json()
    rest = client.get(f"/runs/{run}/measures", params={"limit": 3, "cursor": first["next"]}).json()
    assert [item["track_id"] for item in first["items"] + rest["items"]] == [4, 3, 2, 1]
    assert (first["ensemble"]["tracks"], rest["ensemble"]["tracks"], rest["next"]) == (3, 1, None)


def test_window_length_and_exposure(served: tuple[httpx.Client, str, str]) -> None:
    client, _, run = served
    part = client.get(f"/runs/{run}/measures?t_from_s=0.5&t_to_s=0.99").json()["items"]
    assert {item["points"] for item in part} == {50}
    nothing = client.get(f"/runs/{run}/measures?min_length=1000").json()
    assert (nothing["items"], nothing["ensemble"]["tracks"]) == ([], 0)
    sharp, blurred = (
        client.get(f"/runs/{run}/measures{query}").json()["ensemble"]["diffusion_um2_s"]["all"]["value"]
        for query in ("", "?exposure_s=0.01")
    )
    assert math.isfinite(blurred)
    assert blurred > sharp


def test_without_localizations_the_points_are_measured(
    served: tuple[httpx.Client, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _, run = served
    monkeypatch.setattr("service.api.measures._localizations", lambda *_: Localizations.empty())
    answer = client.get(f"/runs/{run}/measures").json()
    assert answer["source"] == "points"
    assert answer["items"][0]["observed"] == 200


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("exposure_s=1", 422, "time between frames"),
        ("exposure_s=1e9", 422, "exposure"),
        ("limit=0", 422, "limit"),
        ("limit=100000", 422, "limit"),
        ("t_from_s=2&t_to_s=1", 422, "must not be greater"),
        ("revision=7", 404, "revision 7"),
        ("cursor=no", 422, "cursor"),
        ("speed=1", 422, "speed"),
    ],
)
def test_what_cannot_be_asked(served: tuple[httpx.Client, str, str], query: str, status: int, words: str) -> None:
    client, _, run = served
    response = client.get(f"/runs/{run}/measures?{query}")
    assert response.status_code == status, response.text
    assert words in f"{response.json()['detail']}"


def test_unknown_run_and_too_much(served: tuple[httpx.Client, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    client, _, run = served
    assert client.get("/runs/nope/measures").status_code == 404
    monkeypatch.setattr("service.api.measures._MOST_LOCALIZATIONS", 10)
    response = client.get(f"/runs/{run}/measures")
    assert response.status_code == 422
    assert "window of time" in response.json()["remedy"]
