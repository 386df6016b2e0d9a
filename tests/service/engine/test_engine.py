from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import tifffile

from hardware.limits import LimitedMicroscope
from hardware.microscope import MicroscopeError
from models.tracking.settings import TrackerSettings
from service.engine.engine import Engine
from service.protocol.addresses import LinkAddress
from service.protocol.clients import SyncEngineClient
from service.protocol.errors import EngineRefusal
from service.settings import load_settings
from service.store.store import Store


class Served:
    """An engine on a thread, in front of a movie that can be taken away."""

    def __init__(self, folder: Path, **engine: Any) -> None:
        self.movie = folder / "movie.ome.tif"
        self.settings = load_settings(
            command_line={
                "data_dir": folder,
                "microscope": {"driver": "replay", "replay": {"movie": self.movie, "fps": 50.0}},
                "engine": engine,
            },
            environment={},
        )
        self.store = Store.open(self.settings.database)
        self.store.migrate()
        self.address = LinkAddress.create()
        self.beats: list[dict[str, Any]] = []
        self.engine = Engine(self.settings, self.address, self.beats.append)
        self.thread = threading.Thread(target=self.engine.serve)
        self.thread.start()

    def write_movie(self, pixel_size_um: float = 0.65) -> None:
        frames = np.random.default_rng(1).poisson(120, (20, 64, 64)).astype(np.uint16)
        metadata = {
            "axes": "TYX",
            "PhysicalSizeX": pixel_size_um,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": pixel_size_um,
            "PhysicalSizeYUnit": "µm",
        }
        tifffile.imwrite(self.movie, frames, ome=True, metadata=metadata)

    def close(self) -> None:
        self.engine.end()
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.store.close()
        shutil.rmtree(self.address.folder)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.close()


def wait_for(condition: Callable[[], Any], limit_s: float = 120.0) -> Any:
    deadline = time.monotonic() + limit_s
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return result


def test_a_microscope_that_is_away_is_told_of_and_tried_again(served: Served) -> None:
    with SyncEngineClient(served.address, 10.0) as client:
        away = wait_for(lambda: (now := client.status())["state"] == "microscope away" and now)
        assert not away["ready"]
        assert "movie.ome.tif" in away["problem"]
        assert away["remedy"]
        assert client.request("microscope.stop")["confirmed"] is False
        with pytest.raises(EngineRefusal, match=r"movie\.ome\.tif"):
            client.request("run.start")
        assert client.request("microscope")["state"] == "away"

        served.write_movie()
        there = wait_for(lambda: (now := client.status())["ready"] and now)
        assert there["problem"] is None
        assert there["microscope"]["description"]["driver"] == "replay"
        kinds = [event.kind for event in served.store.events.list().items]
        assert kinds == ["microscope_back", "microscope_away"]

        run = client.request("run.start", {"name": "movie"})["id"]
        wait_for(lambda: (client.status()["ledger"] or {}).get("analysed", 0) > 5)
        with pytest.raises(EngineRefusal, match="is on"):
            client.request("run.start")
        # A driver that fails in the middle: the run is ended with the reason, and the microscope opened again.
        microscope = served.engine.microscope.microscope
        assert microscope is not None

        def fail(timeout_s: float) -> None:
            raise MicroscopeError("no_frame", "The cable fell out.", "Put it back.")

        microscope.next_frame = fail  # type: ignore[method-assign, assignment]
        wait_for(lambda: client.status()["run_id"] is None)
        wait_for(lambda: client.status()["ready"])
        item = served.store.runs.get(run)
        assert item.state == "failed"
        assert "The cable fell out" in (item.problem or "")
        assert item.ledger["in_flight"] == 0
        assert served.engine.microscope.microscope is not microscope

        again = client.request("run.start", {"duration_s": 0.2})["id"]
        wait_for(lambda: served.store.runs.get(again).state == "finished")
        assert client.request("run.stop", {"id": again}) == {"id": again}
    assert {beat["state"] for beat in served.beats} >= {"microscope away", "ready", "running"}


@pytest.fixture
def unattended(tmp_path: Path, small_disk: Path) -> Iterator[Served]:
    """An engine that shall record from its start on, onto a disk that is full down to the floor."""
    (small_disk / "filler").write_bytes(bytes(200 * 1024))
    (tmp_path / "recordings").symlink_to(small_disk)
    served = Served(tmp_path, run_at_start=True, record=True, free_space_floor_gb=1e-4)
    yield served
    served.close()


def test_an_unattended_run_waits_for_space_and_then_begins(unattended: Served, small_disk: Path) -> None:
    unattended.write_movie()
    with SyncEngineClient(unattended.address, 10.0) as client:
        waiting = wait_for(lambda: (now := client.status())["problem"] and "GB are free" in now["problem"] and now)
        assert waiting["state"] == "run waits"
        assert not waiting["ready"]
        assert "Free some space" in waiting["remedy"]
        assert unattended.store.runs.list().items == []
        (small_disk / "filler").unlink()
        status = wait_for(lambda: (now := client.status())["ready"] and now)
        assert status["problem"] is None
        (run,) = unattended.store.runs.list().items
        assert run.record
    assert [event.kind for event in unattended.store.events.list().items if event.kind == "run_waits"] == ["run_waits"]


def test_an_unattended_run_whose_camera_does_not_start_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hardware.replay import ReplayMicroscope

    failures = iter(range(2))
    start = ReplayMicroscope.start_sequence

    def fail_twice(microscope: ReplayMicroscope) -> None:
        if next(failures, None) is not None:
            raise MicroscopeError("busy", "The camera is busy.", "Wait.")
        start(microscope)

    monkeypatch.setattr(ReplayMicroscope, "start_sequence", fail_twice)
    served = Served(tmp_path, run_at_start=True)
    try:
        served.write_movie()
        with SyncEngineClient(served.address, 10.0) as client:
            wait_for(lambda: client.status()["state"] == "running")
        wait_for(lambda: [run.state for run in served.store.runs.list().items] == ["running", "failed", "failed"])
    finally:
        served.close()


def test_of_20_starts_at_once_one_is_accepted(served: Served) -> None:
    served.write_movie()

    def start(_: int) -> str:
        with SyncEngineClient(served.address, 30.0) as client:
            try:
                return f"begun {client.request('run.start')['id']}"
            except EngineRefusal as refusal:
                return refusal.kind

    with SyncEngineClient(served.address, 10.0) as client:
        wait_for(lambda: client.status()["ready"])
        with ThreadPoolExecutor(20) as many:
            answers = list(many.map(start, range(20)))
        begun = [answer.removeprefix("begun ") for answer in answers if answer.startswith("begun ")]
        assert [run.id for run in served.store.runs.list().items] == begun
        assert len(begun) == 1
        assert answers.count("conflict") == 19
        client.request("run.stop", {"id": begun[0]})


@pytest.mark.parametrize("duration_s", [0, -1.0, float("inf")])
def test_durations_that_are_none_are_refused(served: Served, duration_s: float) -> None:
    served.write_movie()
    with SyncEngineClient(served.address, 10.0) as client:
        wait_for(lambda: client.status()["ready"])
        with pytest.raises(EngineRefusal, match="must be positive"):
            client.request("run.start", {"duration_s": duration_s})


def test_a_model_of_other_optics_is_refused(served: Served) -> None:
    served.write_movie(pixel_size_um=1.6)
    with SyncEngineClient(served.address, 10.0) as client:
        wait_for(lambda: client.status()["ready"])
        with pytest.raises(EngineRefusal, match=r"1\.6 µm per pixel") as refusal:
            client.request("run.start")
        assert refusal.value.kind == "invalid"
        assert client.status()["state"] == "ready"


def test_a_driver_that_hangs_leaves_the_stop_unconfirmed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.stop_command._PATIENCE_S", 0.1)
    served.write_movie()
    released = threading.Event()
    with SyncEngineClient(served.address, 10.0) as client:
        wait_for(lambda: client.status()["ready"])
        microscope = served.engine.microscope.microscope
        assert microscope is not None
        microscope.stop = released.wait  # type: ignore[method-assign, assignment]
        reply = client.request("microscope.stop")
        assert reply["confirmed"] is False
        assert "did not respond" in reply["reason"]
        released.set()


def test_a_status_that_cannot_be_taken_is_a_problem_and_not_a_silence(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.write_movie()
    with SyncEngineClient(served.address, 10.0) as client:
        wait_for(lambda: client.status()["ready"] and served.beats)

        def fail() -> None:
            raise ValueError("what letter is this")

        with monkeypatch.context() as failing:
            failing.setattr(served.engine.status, "_take", fail)
            wait_for(lambda: "what letter is this" in (served.beats[-1]["problem"] or ""))
            beats = len(served.beats)
            wait_for(lambda: len(served.beats) > beats + 3)
            assert "what letter is this" in client.status()["problem"]
            assert served.beats[-1]["state"] == "ready"
        wait_for(lambda: served.beats[-1]["problem"] is None)
        assert client.status()["problem"] is None
    kinds = [event.kind for event in served.store.events.list().items]
    assert kinds.count("status_failed") == 1


def test_an_engine_that_gives_no_sign_of_life_ends(served: Served) -> None:
    wait_for(lambda: served.beats)

    def fail(values: dict[str, Any]) -> None:
        raise RuntimeError("the pipe is gone")

    served.engine.status._beat = fail
    served.thread.join(60)
    assert not served.thread.is_alive()
    assert "engine_failed" in [event.kind for event in served.store.events.list().items]


def test_letters_of_no_alphabet_reach_the_client(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.write_movie()
    with SyncEngineClient(served.address, 10.0) as client:
        wait_for(lambda: client.status()["ready"])
        monkeypatch.setitem(served.engine.microscope.facts, "odd", "25\udcb5m")
        status = wait_for(lambda: (now := client.status())["microscope"].get("odd") and now)
        assert status["microscope"]["odd"] == "25\\udcb5m"


def test_the_status_is_plain_values(served: Served) -> None:
    served.write_movie()
    with SyncEngineClient(served.address, 10.0) as client:
        status = wait_for(lambda: (now := client.status())["ready"] and now)
    assert msgpack.unpackb(msgpack.packb(status)) == status
    assert {
        "epoch", "state", "ready", "problem", "remedy", "microscope", "model_id", "run_id", "ledger", "stages",
        "latency_ms", "fps", "process",
    } <= set(status)  # fmt: skip


def test_a_microscope_that_cannot_be_made_ready_is_closed_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left open it would stay busy for ever: the Micro-Manager core is one in a process."""
    closed: list[object] = []
    close = LimitedMicroscope.close

    def close_noted(microscope: LimitedMicroscope) -> None:
        closed.append(microscope)
        close(microscope)

    monkeypatch.setattr(LimitedMicroscope, "close", close_noted)
    read_facts, failures = served.engine.microscope.read_facts, iter([ValueError("odd facts")])

    def fail_once(microscope: LimitedMicroscope) -> None:
        for failure in failures:
            raise failure
        read_facts(microscope)

    monkeypatch.setattr(served.engine.microscope, "read_facts", fail_once)
    served.write_movie()
    with SyncEngineClient(served.address, 10.0) as client:
        wait_for(lambda: client.status()["ready"])
    assert len(closed) == 1
    said = [event.message for event in served.store.events.list().items if event.kind == "microscope_away"]
    assert "ValueError: odd facts" in said[0]


def test_the_first_error_is_told_when_reading_fails_too(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.write_movie()
    with SyncEngineClient(served.address, 10.0) as client:
        wait_for(lambda: client.status()["ready"])

        def unreadable(microscope: object) -> None:
            raise MicroscopeError("device", "The position cannot be read.", "Look.")

        with monkeypatch.context() as failing:
            failing.setattr(served.engine.microscope, "read_facts", unreadable)
            with pytest.raises(EngineRefusal, match="binning 2"):
                client.request("microscope.set", {"binning": 2})
        kinds = {event.kind: event.message for event in served.store.events.list().items}
        assert "The position cannot be read" in kinds["microscope_trouble"]


def test_a_run_records_how_it_tracks_and_is_smoothed_with_it(served: Served) -> None:
    served.write_movie()
    with SyncEngineClient(served.address, 10.0) as client:
        wait_for(lambda: client.status()["ready"])
        with pytest.raises(EngineRefusal, match=r"tracking\.settings\.step_um"):
            client.request("run.start", {"tracking": {"settings": {"step_um": -1}}})
        wanted = {"preset": "default", "settings": {"step_um": 3.0}}
        run = client.request("run.start", {"duration_s": 0.5, "tracking": wanted})["id"]
        item = wait_for(lambda: (item := served.store.runs.get(run)).revision == 2 and item)
        recorded = item.settings["tracking"]
        assert recorded["settings"]["step_um"] == 3.0
        assert set(recorded["settings"]) == {each.name for each in fields(TrackerSettings)}
        (made,) = item.revisions
        assert (made["form"], made["tracking"]) == ("smoothed", recorded)
        plain = client.request("run.start", {"duration_s": 0.2, "tracking": {"preset": "published"}})["id"]
        wait_for(lambda: served.store.runs.get(plain).state == "finished")
        assert served.store.runs.get(plain).settings["tracking"]["preset"] == "published"
        assert served.store.runs.get(plain).settings["analysis"] == {"static_light": "auto"}
        kept = client.request("run.start", {"duration_s": 0.2, "static_light": "off"})["id"]
        wait_for(lambda: served.store.runs.get(kept).state == "finished")
        assert served.store.runs.get(kept).settings["analysis"] == {"static_light": "off"}


def test_a_run_chooses_whether_its_images_are_fitted(served: Served) -> None:
    served.write_movie()
    with SyncEngineClient(served.address, 10.0) as client:
        wait_for(lambda: client.status()["ready"])
        for fit, fitted in (("auto", "auto"), ("off", "off"), (None, "auto")):
            run = client.request("run.start", {"duration_s": 0.3} | ({} if fit is None else {"fit": fit}))["id"]
            item = wait_for(lambda run=run: (item := served.store.runs.get(run)).state == "finished" and item)
            assert item.settings["tracking"]["fit"] == fitted
            assert item.settings["version"]
