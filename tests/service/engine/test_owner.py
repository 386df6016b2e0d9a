"""One owner of the microscope at a time, its settings, and models swapped beside a run; on one simulated microscope."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from models.errors import DataError
from models.weights import reference_model
from service.engine.engine import Engine
from service.files.jobs import Jobs
from service.protocol.addresses import LinkAddress
from service.protocol.clients import SyncEngineClient
from service.protocol.errors import EngineRefusal
from service.settings import Settings, load_settings
from service.store.store import Store

SWEEP = {"name": "beads", "z_range_um": [0.0, 20.0], "z_step_um": 1.0, "repeats": 1, "settle_s": 0.1}


class Served:
    """An engine on a thread, in front of a simulated slide, with two models in its data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        simulated = {"height": 64, "width": 64, "emitters": 4, "sample": "slide", "frame_period_s": 0.05}
        self.settings: Settings = load_settings(
            command_line={"data_dir": folder, "microscope": {"simulated": simulated}}, environment={}
        )
        self.store = Store.open(self.settings.database)
        self.store.migrate()
        self.jobs = Jobs(folder)
        for name, changes in (("second", {}), ("other-optics", {"pixel_size_um": 1.6})):
            copy = folder / "models" / name
            shutil.copytree(reference_model(), copy)
            description = json.loads((copy / "model.json").read_text())
            (copy / "model.json").write_text(json.dumps({**description, "id": name, **changes}))
        self.cut_off = self.jobs.create("calibrate", "", {}, step="sweep", state="running").id
        self.address = LinkAddress.create()
        self.engine = Engine(self.settings, self.address, lambda values: None)
        self.thread = threading.Thread(target=self.engine.serve)
        self.thread.start()

    def close(self) -> None:
        self.engine.end()
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.store.close()
        shutil.rmtree(self.address.folder)

    def events(self) -> list[str]:
        return [event.kind for event in self.store.events.list().items]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("engine"))
    yield served
    served.close()


@pytest.fixture
def client(served: Served) -> Iterator[SyncEngineClient]:
    with SyncEngineClient(served.address, 60.0) as client:
        wait_for(lambda: client.status()["state"] == "ready")
        yield client
        wait_for(lambda: client.status()["state"] == "ready")


def wait_for(condition: Callable[[], Any], limit_s: float = 120.0) -> Any:
    deadline = time.monotonic() + limit_s
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return result


def assert_refused(kind: str, says: str, client: SyncEngineClient, command: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(EngineRefusal, match=says) as refusal:
        client.request(command, arguments)
    assert refusal.value.kind == kind


WANTED = (
    ("run.start", {}),
    ("calibration.start", SWEEP),
    ("stage.move", {"stage_um": 1.0}),
    ("microscope.set", {"exposure_s": 0.02}),
)


def test_a_sweep_that_was_on_when_the_engine_was_killed_is_marked(served: Served, client: SyncEngineClient) -> None:
    job = served.jobs.get(served.cut_off)
    assert job.state == "interrupted"
    assert job.error is not None
    assert "stage was not put back" in job.error.problem
    assert "calibration_interrupted" in served.events()


def test_settings_are_set_all_or_nothing(client: SyncEngineClient) -> None:
    now = client.request("microscope.set", {"exposure_s": 0.02, "roi": [8, 0, 48, 64], "shutter_open": False})
    assert now["camera"]["exposure_s"] == 0.02
    assert now["camera"]["roi"] == {"x": 8, "y": 0, "width": 48, "height": 64}
    assert now["light"]["shutter_open"] is False
    for wrong in ({"roi": [0, 0, 65, 64]}, {"exposure_s": 0.03, "channel": "FITC"}, {"binning": 0}):
        assert_refused("invalid", "asked", client, "microscope.set", wrong)
    assert client.request("microscope")["camera"] == now["camera"]
    back = client.request("microscope.set", {"exposure_s": 0.009, "binning": 2, "shutter_open": True})
    assert back["camera"] == {"exposure_s": 0.009, "roi": None, "binning": 2}  # the region was one of other pixels
    client.request("microscope.set", {"binning": 1})


def test_the_camera_view_gives_way_to_a_run_and_a_sweep(served: Served, client: SyncEngineClient) -> None:
    for command, arguments, end in (
        ("run.start", {"name": "after live"}, lambda own: client.request("run.stop", {"id": own})),
        ("calibration.start", SWEEP, served.jobs.cancel),
    ):
        now = client.request("microscope.live", {"on": True})
        assert (now["state"], now["owner"]) == ("live", {"kind": "live", "id": "live"})
        assert client.request("microscope.snap")["shape"] == [64, 64]
        assert client.request("microscope.set", {"exposure_s": 0.01})["state"] == "live"
        assert client.request("microscope")["state"] == "live"
        wait_for(lambda: client.status()["owner"] == {"kind": "live", "id": "live"})
        assert client.status()["state"] == "ready"
        own = client.request(command, arguments)["id"]
        wait_for(lambda own=own: (client.status()["owner"] or {}).get("id") == own)  # type: ignore[misc]
        assert_refused("conflict", f"{own} is on and has", client, "microscope.live", {"on": True})
        end(own)
        wait_for(lambda: client.status()["owner"] is None)
    client.request("stage.move", {"stage_um": 0.0})
    client.request("microscope.set", {"exposure_s": 0.009})


def test_the_stage_moves_within_its_limits(client: SyncEngineClient) -> None:
    assert client.request("stage.move", {"stage_um": 12.5})["stage"]["stage_um"] == 12.5
    assert_refused("invalid", "soft limits", client, "stage.move", {"stage_um": 1000.0})
    assert_refused("invalid", "greatest step", client, "stage.move", {"stage_um": -150.0})
    assert client.request("stage.move", {"stage_um": 0.0})["stage"]["stage_um"] == 0.0


def test_a_sweep_has_the_microscope_until_it_is_stopped(served: Served, client: SyncEngineClient) -> None:
    job = client.request("calibration.start", SWEEP)["id"]
    status = wait_for(lambda: (now := client.status())["state"] == "calibrating" and now)
    assert status["ready"]
    assert status["owner"] == {"kind": "calibration", "id": job}
    for command, arguments in WANTED:
        assert_refused("conflict", f"Calibration {job} is on and has", client, command, arguments)
    assert client.request("microscope")["state"] == "calibrating"
    assert client.request("microscope.stop")["confirmed"] is True
    wait_for(lambda: served.jobs.get(job).state == "cancelled")
    wait_for(lambda: client.status()["owner"] is None)
    assert served.events()[:2] == ["calibration_cancelled", "calibration_started"]
    client.request("stage.move", {"stage_um": 0.0})


def test_a_sweep_that_is_cancelled_gives_everything_back(served: Served, client: SyncEngineClient) -> None:
    before = client.request("stage.move", {"stage_um": 4.0})
    job = client.request("calibration.start", {**SWEEP, "exposure_s": 0.004})["id"]
    wait_for(lambda: (progress := served.jobs.get(job).progress) and progress.done > 5)
    served.jobs.cancel(job)
    wait_for(lambda: served.jobs.get(job).state == "cancelled")
    after = client.request("microscope")
    assert (after["camera"], after["light"], after["stage"]) == (before["camera"], before["light"], before["stage"])
    client.request("stage.move", {"stage_um": 0.0})


def test_no_sweep_of_nonsense(client: SyncEngineClient) -> None:
    assert_refused("invalid", "below its high end", client, "calibration.start", {**SWEEP, "z_range_um": [9.0, 9.0]})
    assert_refused("invalid", "must agree", client, "calibration.start", {**SWEEP, "pixel_size_um": 2.0})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"z_step_um": 1e-7}, "step of the sweep is 1e-07 µm"),
        ({"z_step_um": float("nan")}, "step of the sweep is nan µm"),
        (
            {"z_step_um": 0.001},
            r"31001 planes of 1 exposures of 64 x 64 pixels, 0\.254 GB; plausible numbers",
        ),
        ({"z_step_um": 20.0}, "3 planes of 1 exposures"),
        ({"z_range_um": [0.0, 1e7]}, "depth is 1e\\+07 µm according to the z-range"),
        ({"repeats": 1000000}, "exposures at a plane is 1e\\+06"),
        ({"settle_s": 1e9}, "wait after each move is 1e\\+09"),
        ({"exposure_s": 1e-300}, "exposure is 1e-300"),
        ({"pixel_size_um": 650.0}, "Was it given in nanometres"),
        ({"camera": {"offset_adu": 1.0, "gain": 2.0}}, "no camera description"),
        ({"camera": {"offset_adu": 1.0, "electrons_per_adu": -2.0, "read_noise_e": 1.0}}, "gain must be positive"),
    ],
)
def test_no_sweep_of_a_size_that_is_none(
    served: Served, client: SyncEngineClient, changes: dict[str, Any], says: str
) -> None:
    known = len(served.jobs.page(1000).items)
    assert_refused("invalid", says, client, "calibration.start", {**SWEEP, **changes})
    assert len(served.jobs.page(1000).items) == known


def test_a_sweep_that_the_machine_cannot_take_is_refused_with_its_size(
    served: Served, client: SyncEngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for floor_gb, says in ((1e9, r"32 planes of 1 exposures .* 1e\+09 GB are left free"), (0.0, None)):
        part = served.settings.engine.model_copy(update={"free_space_floor_gb": floor_gb})
        monkeypatch.setattr(
            served.engine.calibrations, "_settings", served.settings.model_copy(update={"engine": part})
        )
        if says is not None:
            assert_refused("invalid", says, client, "calibration.start", SWEEP)
    monkeypatch.setattr("models.memory.spare_bytes", lambda: 1000)
    assert_refused("invalid", "32 planes of 1 exposures .* memory", client, "calibration.start", SWEEP)


def test_a_measured_camera_is_kept_for_the_worker(served: Served, client: SyncEngineClient) -> None:
    camera = {"offset_adu": 98.5, "electrons_per_adu": 0.47, "read_noise_e": 1.6, "bit_depth": 12, "source": "given"}
    job = client.request("calibration.start", {**SWEEP, "camera": camera})["id"]
    assert served.jobs.get(job).request["camera"] == camera
    served.jobs.cancel(job)
    wait_for(lambda: served.jobs.get(job).is_over)
    client.request("stage.move", {"stage_um": 0.0})


def test_arguments_that_do_not_fit_are_told_and_errors_of_the_engine_are_not_taken_for_them(
    served: Served, client: SyncEngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_refused("invalid", "arguments of control.renew do not fit: missing a required", client, "control.renew", {})
    assert_refused("invalid", "unexpected keyword argument 'b'", client, "stage.move", {"stage_um": 1.0, "b": 2})

    def broken(stage_um: float) -> dict[str, Any]:
        return {} + stage_um  # type: ignore[operator, no-any-return]

    monkeypatch.setitem(served.engine.commands.handlers, "stage.move", broken)
    with structlog.testing.capture_logs() as logs:
        assert_refused("internal", "TypeError: unsupported operand", client, "stage.move", {"stage_um": 1.0})
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["command_failed"]


@pytest.mark.parametrize("moment", ["its fit is prepared", "it is written down", "it is handed over"])
def test_a_run_may_end_while_a_model_is_made_active(
    served: Served, client: SyncEngineClient, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    first = client.status()["active_model_id"]
    client.request("run.start", {"name": "ends meanwhile"})
    run = wait_for(lambda: served.engine.lease.run)
    models = served.engine.models
    owner, name = {
        "its fit is prepared": (models, "for_analysis"),
        "it is written down": (models._library, "activate"),
        "it is handed over": (run, "swap_model"),
    }[moment]
    done = getattr(owner, name)

    def end_first(*arguments: Any) -> Any:
        run.stop_camera()
        wait_for(lambda: run.state != "running")
        return done(*arguments)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(owner, name, end_first)
        assert client.request("model.activate", {"id": "second"}) == {"id": "second"}
    assert json.loads((served.folder / "models" / "active.json").read_text())["id"] == "second"
    wait_for(lambda: (client.status()["model_id"], client.status()["active_model_id"]) == ("second", "second"))
    client.request("model.activate", {"id": first})
    wait_for(lambda: (client.status()["model_id"], client.status()["active_model_id"]) == (first, first))


def test_a_model_that_cannot_be_written_down_is_not_made_active(
    served: Served, client: SyncEngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.status()["active_model_id"]

    def full(model_id: str) -> None:
        raise DataError("There is no room for active.json.", "Free some space.")

    monkeypatch.setattr(served.engine.models._library, "activate", full)
    assert_refused("invalid", "no room", client, "model.activate", {"id": "second"})
    time.sleep(0.6)  # two statuses later
    assert client.status()["active_model_id"] == first


def test_models_are_swapped_beside_a_run(served: Served, client: SyncEngineClient) -> None:
    first = client.status()["active_model_id"]
    run = client.request("run.start", {"name": "swap"})["id"]
    wait_for(lambda: client.status()["owner"] == {"kind": "run", "id": run})
    for command, arguments in WANTED:
        assert_refused("conflict", f"Run {run} is on and has", client, command, arguments)

    def models_of_batches() -> set[str]:
        return {batch.model_id for batch in served.store.localizations.list(run).items}

    wait_for(lambda: models_of_batches() == {first})
    assert_refused("not_found", "no model 'none'", client, "model.activate", {"id": "none"})
    assert_refused("invalid", r"made for 1\.6 µm", client, "model.activate", {"id": "other-optics"})
    assert client.status()["model_id"] == first
    assert client.request("model.activate", {"id": "second"}) == {"id": "second"}
    wait_for(lambda: models_of_batches() == {first, "second"})
    # Batches of one model never come after those of the next.
    made = [batch.model_id for batch in served.store.localizations.list(run, 1000).items]
    assert made == sorted(made, key=lambda model: model != "second")
    client.request("run.stop", {"id": run})
    status = wait_for(lambda: (now := client.status())["run_id"] is None and now["model_id"] == "second" and now)
    assert (status["model_id"], status["active_model_id"]) == ("second", "second")
    ledger = served.store.runs.get(run).ledger
    assert ledger["in_flight"] == 0
    assert ledger["analysed"] == ledger["exposed"]
    assert "model_activated" in served.events()

    # A run may name another model; the active one stays.
    other = client.request("run.start", {"model": first})["id"]
    wait_for(lambda: (client.status()["model_id"], client.status()["active_model_id"]) == (first, "second"))
    client.request("run.stop", {"id": other})
    assert served.store.runs.get(other).model_id == first
    assert_refused("not_found", "no model 'none'", client, "run.start", {"model": "none"})

    # What is active is known to the next engine, unless it is gone.
    address = LinkAddress.create()
    restarted = Engine(served.settings, address, lambda values: None)
    try:
        assert restarted.models._load_active().model.id == "second"
        shutil.rmtree(served.folder / "models" / "second")
        assert restarted.models._load_active().model.id == first
        assert served.events()[0] == "model_lost"
    finally:
        restarted.close()
        shutil.rmtree(address.folder)
