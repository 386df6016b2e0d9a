"""Files of a sweep over HTTP: streamed into the folder of a job, which computes the calibration, or refused."""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import bathyscope
from bathyscope_errors import BathyscopeError
from models.calibration.calibration import Calibration
from models.known_cameras import KNOWN_CAMERAS
from service.api import uploads
from service.files.job import Job
from service.files.jobs import Jobs
from service.files.sweep import sweep_of_job
from service.jobs.runner import Runner
from service.settings import Settings
from service.store.store import Store
from tests.hardware.format_samples import FORMATS, ome_zarr
from tests.models.bead_sweeps import simulate
from tests.service.api.test_model_archives import assert_no_leftovers, assert_problem
from tests.service.api_peer import Peer, Server, link
from tests.service.files.test_model_archive import own_model

WANTED: dict[str, Any] = {"z_range_um": [2, 16], "pixel_size_um": 1.0, "z_step_um": 1.0, "z_start_um": -6}
CAMERA = {"offset_adu": 100.0, "electrons_per_adu": 2.0, "read_noise_e": 3.0}


@pytest.fixture(scope="module")
def sweep() -> Any:
    return simulate(beads=9)[0].planes[:, 0]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Settings]]:
    folder = tmp_path_factory.mktemp("sweeps")
    store = Store.open(folder / "bathyscope.db")
    store.migrate()
    settings = Settings(data_dir=folder, upload_most_gb=0.01)
    with link() as address:
        peer = Peer(address, store, Jobs(folder))
        server = Server(settings, address, store, Path("none"))
        yield server, settings
        server.close()
        peer.close()
    store.close()


@pytest.fixture
def client(served: tuple[Server, Settings]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{served[0].host}/api/v1", timeout=60) as client:
        yield client


@pytest.fixture
def folder(served: tuple[Server, Settings]) -> Path:
    return served[1].data_dir


def send(client: httpx.Client, request: Any, *files: tuple[str, bytes]) -> httpx.Response:
    text = request if isinstance(request, str) else json.dumps(request)
    parts: list[Any] = [("request", (None, text, "application/json"))]
    return client.post("/calibrations", files=[*parts, *(("sweep", (name, content)) for name, content in files)])


def ended(settings: Settings, job: str) -> Job:
    """The job after a real runner has worked on it; the others are cancelled."""
    jobs, runner = Jobs(settings.data_dir), Runner(settings)
    for other in jobs.open_jobs():
        if other.id != job:
            jobs.cancel(other.id)
    deadline_s = time.monotonic() + 200
    while not jobs.get(job).is_over:
        assert time.monotonic() < deadline_s
        runner.update()
        time.sleep(0.05)
    runner.end()
    return jobs.get(job)


def test_a_sweep_becomes_a_calibration(served: tuple[Server, Settings], sweep: Any, tmp_path: Path) -> None:
    """By the client, as an OME-Zarr folder, which travels as a ZIP file."""
    path = ome_zarr(tmp_path / "beads.ome.zarr", sweep, "zyx", scale={"z": 1.0, "y": 1.0, "x": 1.0})
    with bathyscope.Client(f"http://{served[0].host}") as client:
        job = client.calibrations.upload(path, z_range_um=(2, 16), z_start_um=-6, camera=CAMERA, name="beads")
        assert (job.kind, job.step, job.name) == ("calibrate", "compute", "beads")
        assert job.request["files"] == ["beads.ome.zarr.zip"]
        input_folder = served[1].data_dir / "jobs" / job.id / "input"
        assert [file.name for file in input_folder.iterdir()] == ["beads.ome.zarr.zip"]
        done = ended(served[1], job.id)
        assert done.state == "done", done.error
        found = client.calibrations.get(done)
    assert found.z_range_um == (2.0, 16.0)
    assert found.focus_um == pytest.approx(2.3, abs=0.7)
    calibration = Calibration.load(served[1].data_dir / "calibrations" / job.id)
    assert calibration.camera.electrons_per_adu == 2.0
    assert not input_folder.exists()
    assert_no_leftovers(served[1].data_dir)


def test_a_known_camera_is_given_by_its_name(
    served: tuple[Server, Settings], client: httpx.Client, sweep: Any, tmp_path: Path
) -> None:
    listed = client.get("/cameras").json()["items"]
    assert [each["name"] for each in listed] == list(KNOWN_CAMERAS)
    assert all(each["source"] for each in listed)
    path = FORMATS["TIFF, LZW"](tmp_path, sweep, "Z")
    started = send(client, {**WANTED, "camera": "andor-zyla"}, ("sweep.tif", path.read_bytes()))
    assert started.json()["request"]["camera"] == "andor-zyla"
    job = ended(served[1], started.json()["id"])
    assert job.state == "done", job.error
    calibration = Calibration.load(served[1].data_dir / "calibrations" / job.id)
    assert calibration.camera == KNOWN_CAMERAS["andor-zyla"].camera()


def test_the_pattern_is_that_of_objects_whose_size_is_stated(
    served: tuple[Server, Settings], client: httpx.Client, sweep: Any, tmp_path: Path
) -> None:
    path = FORMATS["TIFF, LZW"](tmp_path, sweep, "Z")
    widths = []
    for size in ({}, {"object_diameter_um": 8.0, "bead_diameter_um": 1.0}):
        started = send(client, {**WANTED, **size}, ("sweep.tif", path.read_bytes()))
        job = ended(served[1], started.json()["id"])
        assert job.state == "done", job.error
        calibration = Calibration.load(served[1].data_dir / "calibrations" / job.id)
        plane = calibration.psf.planes[0]
        widths.append(float(plane.max() / plane.sum()))
        assert ("object_um" in calibration.report) == bool(size)
    assert any("objects of 8 µm" in note for note in calibration.report["notes"])
    assert widths[1] < 0.7 * widths[0]


def opened(settings: Settings, job: str) -> Any:
    """The planes of the sweep of a job, as its worker reads them."""
    found = Jobs(settings.data_dir).get(job)
    sweep, _ = sweep_of_job(settings.data_dir / "jobs" / job, found.request, 10_000_000, lambda note: None)
    return sweep.planes


@pytest.mark.parametrize(
    "name", ["OME-TIFF, several files", "NDTiff, one file", "Micro-Manager stack, two files", "Zeiss CZI", "Leica LIF"]
)
def test_sets_of_files_are_sent_as_they_are(
    served: tuple[Server, Settings], sweep: Any, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = FORMATS[name](tmp_path, sweep, "Z")
    files = sorted((path if path.is_dir() else path.parent).iterdir())
    with bathyscope.Client(f"http://{served[0].host}") as client:
        job = client.calibrations.upload(files)
    assert "sent" in capsys.readouterr().err
    assert np.array_equal(opened(served[1], job.id)[:, 0], sweep)


@pytest.mark.parametrize("name", ["NDTiff, several files", "Micro-Manager's single images"])
def test_folders_are_sent_as_one_file(served: tuple[Server, Settings], sweep: Any, tmp_path: Path, name: str) -> None:
    with bathyscope.Client(f"http://{served[0].host}") as client:
        job = client.calibrations.upload(FORMATS[name](tmp_path, sweep, "Z"), progress=False)
    assert np.array_equal(opened(served[1], job.id)[:, 0], sweep)


def evil_zip(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(20_000_000) if name == "bomb.tif" else b"II")
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("sweep.tif", b"II*\0 torn", "is damaged or incomplete"),
        ("sweep.xyz", b"no TIFF", "is no TIFF file"),
        ("sweep.zip", b"PK no archive", "is no TIFF file"),
        ("evil.zip", evil_zip("../../../evil.tif"), "leads out of its folder"),
        ("evil.zip", evil_zip("bomb.tif"), "unpacks to 20,000,000 bytes"),
    ],
)
def test_files_that_are_no_sweep(
    served: tuple[Server, Settings], client: httpx.Client, name: str, content: bytes, says: str
) -> None:
    started = send(client, WANTED, (name, content))
    assert started.status_code == 202, started.text
    with pytest.raises(BathyscopeError) as refusal:
        opened(served[1], started.json()["id"])
    assert says in refusal.value.problem
    assert refusal.value.remedy
    assert not list(served[1].data_dir.rglob("evil.tif"))


def test_a_job_that_fails_names_fields_and_removes_its_files(
    served: tuple[Server, Settings], client: httpx.Client, sweep: Any, tmp_path: Path
) -> None:
    path = FORMATS["TIFF, LZW"](tmp_path, sweep[:, :32, :32], "Z")
    started = send(client, {"pixel_size_um": 1.0}, ("sweep.tif", path.read_bytes()))
    job = ended(served[1], started.json()["id"])
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.remedy == "State it with z_step_um."
    assert not (served[1].data_dir / "jobs" / job.id / "input").exists()


@pytest.mark.parametrize(
    ("request_part", "files", "says"),
    [
        ("{", [("a.tif", b"x")], "Invalid JSON"),
        ("[1]", [("a.tif", b"x")], "request"),
        ({**WANTED, "z_step_um": 1e-9}, [("a.tif", b"x")], "z_step_um"),
        ({**WANTED, "z_range_um": [16, 2]}, [("a.tif", b"x")], "below the high end"),
        ({**WANTED, "axial_scale": 99}, [("a.tif", b"x")], "axial_scale"),
        ({**WANTED, "object_diameter_um": 4000}, [("a.tif", b"x")], "object_diameter_um"),
        ({**WANTED, "bead_diameter_um": 1.0}, [("a.tif", b"x")], "needs an object_diameter_um"),
        ({**WANTED, "object_diameter_um": 1.0, "bead_diameter_um": 2.0}, [("a.tif", b"x")], "wider, not narrower"),
        ({**WANTED, "flip_z": 1}, [("a.tif", b"x")], "flip_z"),
        ({**WANTED, "more": 1}, [("a.tif", b"x")], "there is no such field"),
        ({**WANTED, "camera": {}}, [("a.tif", b"x")], "offset_adu"),
        ({**WANTED, "camera": "kinetix"}, [("a.tif", b"x")], "no known camera 'kinetix'"),
        ({**WANTED, "camera": 3}, [("a.tif", b"x")], "camera"),
        (WANTED, [], "no part 'sweep'"),
        (WANTED, [("a.tif", b"x"), ("A.TIF", b"y")], "Two files have the name"),
        (WANTED, [(".hidden", b"x")], "does not begin with a dot"),
        (WANTED, [("C:", b"x")], "does not begin with a dot"),
        (WANTED, [(f"{n}.tif", b"x") for n in range(65)], "more than 64 files"),
        ("{" + " " * 70_000, [("a.tif", b"x")], "larger than 65,536 bytes"),
    ],
)
def test_forms_that_are_refused(
    client: httpx.Client, folder: Path, request_part: Any, files: list[tuple[str, bytes]], says: str
) -> None:
    before = len(Jobs(folder).page(1000).items)
    assert_problem(send(client, request_part, *files), 422, says)
    assert len(Jobs(folder).page(1000).items) == before
    assert_no_leftovers(folder)


@pytest.mark.parametrize(
    ("content_type", "body", "says"),
    [
        ("multipart/form-data", b"x", "states no boundary"),
        ("multipart/form-data; boundary=b", b"no form", "cannot be read"),
        ("multipart/form-data; boundary=b", b"", "ends before its last part"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="sweep"\r\n\r\nx', "without"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X: y\r\n" * 50, "cannot be read"),
        ("multipart/form-data; boundary=b", b"--b\r\nX: " + b"y" * 9000, "cannot be read"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="sweep"; filename="a.tif"\r\n\r\nII',
            "ends before its last part",
        ),
    ],
)
def test_bodies_that_are_no_form(client: httpx.Client, folder: Path, content_type: str, body: bytes, says: str) -> None:
    answer = client.post("/calibrations", content=body, headers={"Content-Type": content_type})
    assert_problem(answer, 422, says)
    assert_no_leftovers(folder)


def test_names_with_folders_lose_them(client: httpx.Client, folder: Path) -> None:
    started = send(client, WANTED, ("../../../etc/passwd.tif", b"x"), ("C:\\data\\b.tif", b"y"))
    assert started.json()["request"]["files"] == ["b.tif", "passwd.tif"]
    client.delete(f"/jobs/{started.json()['id']}")


def test_sweeps_above_the_setting_are_refused(
    client: httpx.Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_READ_ON_BYTES", 50_000_000)
    answer = send(client, WANTED, ("large.tif", bytes(11_000_000)))
    assert_problem(answer, 413, "10,000,000 are the most", "upload_most_gb")
    assert_no_leftovers(folder)


def test_a_model_is_sent_and_fetched_by_the_client(served: tuple[Server, Settings], tmp_path: Path) -> None:
    own_model(served[1].data_dir / "models" / "mine")
    with bathyscope.Client(f"http://{served[0].host}") as client:
        path = client.models.export("mine", tmp_path / "model.zip")
        with pytest.raises(bathyscope.ServiceError, match="here already") as refusal:
            client.models.add(path, progress=False)
        assert refusal.value.kind == "conflict"
        own_model(tmp_path / "models" / "other", "other")
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["model.zip"]


async def _sent_by_async(address: str, path: Path) -> Job:
    async with bathyscope.AsyncClient(address) as client:
        job = await client.calibrations.upload(path, z_step_um=1.0, progress=False)
        return await client.jobs.cancel(job)


def test_the_asynchronous_client_sends_files_too(served: tuple[Server, Settings], tmp_path: Path) -> None:
    (tmp_path / "sweep.tif").write_bytes(bytes(3_000_000))
    job = asyncio.run(_sent_by_async(f"http://{served[0].host}", tmp_path / "sweep.tif"))
    assert (served[1].data_dir / "jobs" / job.id / "input" / "sweep.tif").stat().st_size == 3_000_000
