"""An unreadable folder never hides the others, ends no process, and is listed with the reason."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect

from models.errors import DataError
from models.weights import reference_model
from service.files.descriptions import FolderUnreadable, read_description, shown_name
from service.files.jobs import Jobs
from service.files.library import Library
from service.settings import Settings
from service.store.errors import UnknownItem
from service.store.store import Store
from tests.models.test_training import small_calibration
from tests.service.api_peer import Server, link

examples = settings(
    max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

KINDS = {"jobs": "state.json", "calibrations": "calibration.json", "models": "model.json"}
REQUEST = {"calibration": "small", "minutes": 5.0, "size": "live", "architecture": "cascade", "seed": 1}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good folder of each kind."""
    folder = tmp_path_factory.mktemp("broken")
    small_calibration().save(folder / "calibrations" / "good")
    shutil.copytree(reference_model(), folder / "models" / "good")
    described = json.loads((folder / "models" / "good" / "model.json").read_text())
    (folder / "models" / "good" / "model.json").write_text(json.dumps({**described, "id": "trained"}))
    jobs = Jobs(folder)
    job = jobs.create("train", "good", REQUEST, step="compute")
    jobs.move(job.id, "running")
    (folder / "jobs" / job.id).rename(folder / "jobs" / "good")
    return folder


@pytest.fixture(scope="module")
def served(data_dir: Path) -> Iterator[Server]:
    store = Store.open(data_dir / "bathyscope.db")
    store.migrate()
    with link() as address:
        server = Server(Settings(data_dir=data_dir), address, store, Path("none"))
        yield server
        server.close()
    store.close()


@pytest.fixture(scope="module")
def client(served: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{served.host}/api/v1", timeout=30) as client:
        yield client


@contextmanager
def copy_of(data_dir: Path, kind: str, name: str = "odd") -> Iterator[Path]:
    """A copy of the good folder that a test damages; it is removed afterwards."""
    place = data_dir / kind / name
    shutil.copytree(data_dir / kind / "good", place)
    for file in (place / "job.json", place / "state.json"):
        if file.exists():
            os.utime(file, (1e9, 1e9))
    os.utime(place, (1e9, 1e9))
    try:
        yield place
    finally:
        remove(place)


def remove(place: Path) -> None:
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
    else:
        shutil.rmtree(place)


def assert_listed_as_unreadable(client: httpx.Client, data_dir: Path, kind: str, name: str = "odd") -> str:
    """Check that the list has the good folder and names the damaged one; return the reason."""
    answer = client.get(f"/{kind}")
    assert answer.status_code == 200, answer.text
    listed = answer.json()
    good = {"jobs": "good", "calibrations": "small", "models": "trained"}[kind]
    assert good in [item["id"] for item in listed["items"]]
    told = {entry["folder"]: entry for entry in listed["unreadable"]}
    entry = told[f"{kind}/{shown_name(name)}"]
    assert entry["problem"].startswith(f"{kind}/{shown_name(name)} cannot be read: ")
    assert entry["remedy"]
    one = client.get(f"/{kind}/{quote(name.encode(errors='surrogateescape'), safe='')}")
    assert one.status_code in (404, 422, 503), one.text
    assert one.json()["remedy"]
    assert [job.id for job in Jobs(data_dir).open_jobs()] == ["good"]
    return str(entry["problem"])


# ---- what files may hold ----


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=8),
    st.just("\ud800"), st.just("a\x00b"), st.sampled_from([1e308, -1e308, float("nan"), float("inf")]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"), (b"{", "is not JSON"), (b"[]", "is no JSON object"), (b"\xff\xfe{}", "is not UTF-8"),
        (nested(100_000).encode(), "nested too deeply"), (nested(300).encode(), "nested too deeply"),
        (nested(65).encode(), "nested too deeply"), (b"{}", "Field required"), (b'{"id": "\\ud800"}', "is no text"),
        (b'{"id": ' + b"9" * 10_000 + b"}", "is not JSON"),
    ],
)  # fmt: skip
def test_descriptions_that_cannot_be_read(
    client: httpx.Client, data_dir: Path, kind: str, content: bytes, reason: str
) -> None:
    with copy_of(data_dir, kind) as place:
        (place / KINDS[kind]).write_bytes(content)
        assert reason in assert_listed_as_unreadable(client, data_dir, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_that_is_missing_or_no_file(client: httpx.Client, data_dir: Path, kind: str) -> None:
    with copy_of(data_dir, kind) as place:
        file = place / KINDS[kind]
        file.unlink()
        os.utime(place, (1e9, 1e9))
        assert "is missing" in assert_listed_as_unreadable(client, data_dir, kind)
        file.mkdir()
        assert_listed_as_unreadable(client, data_dir, kind)
        file.rmdir()
        os.mkfifo(file)  # reading it would wait for ever
        assert "no regular file" in assert_listed_as_unreadable(client, data_dir, kind)
        file.unlink()
        file.symlink_to(file)
        assert "symbolic links" in assert_listed_as_unreadable(client, data_dir, kind)
        file.unlink()
        with file.open("wb") as sparse:
            sparse.truncate(2**40)
        assert "bytes" in assert_listed_as_unreadable(client, data_dir, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_entries_that_are_no_folders(client: httpx.Client, data_dir: Path, kind: str) -> None:
    odd = data_dir / kind / "odd"
    makers: list[Callable[[], Any]] = [
        lambda: odd.write_text("{}"),
        lambda: odd.symlink_to(odd),
        lambda: odd.symlink_to("nowhere"),
        lambda: odd.symlink_to("/dev/null"),
        lambda: os.mkfifo(odd),
    ]
    for make in makers:
        make()
        try:
            assert_listed_as_unreadable(client, data_dir, kind)
        finally:
            remove(odd)


@pytest.mark.parametrize("name", ["a b", "x" * 65, "ü", "new\nline", "\x1b[31m", "%2e%2e", "odd\udcff", "-"])
def test_jobs_of_odd_names(client: httpx.Client, data_dir: Path, name: str) -> None:
    with copy_of(data_dir, "jobs", name):
        assert_listed_as_unreadable(client, data_dir, "jobs", name)


@pytest.mark.parametrize("kind", ["calibrations", "models"])
@pytest.mark.parametrize("name", ["a b", "x" * 200, "new\nline", "odd\udcff"])
def test_a_second_folder_with_the_same_id_is_listed_as_unreadable(
    client: httpx.Client, data_dir: Path, kind: str, name: str
) -> None:
    with copy_of(data_dir, kind, name):  # a copy has the id of the good one, whatever its own name is
        answer = client.get(f"/{kind}").json()
        assert len({item["id"] for item in answer["items"]}) == len(answer["items"])
        assert [entry for entry in answer["unreadable"] if "it has the id" in entry["problem"]]


@examples
@given(
    kind=st.sampled_from(sorted(KINDS)),
    change=st.dictionaries(st.integers(0, 30), VALUES, min_size=1, max_size=2),
    drop=st.booleans(),
)
def test_descriptions_of_any_content(
    client: httpx.Client, data_dir: Path, kind: str, change: dict[int, Any], drop: bool
) -> None:
    """The folder is listed as an item or as unreadable, and all its addresses give a response."""
    with copy_of(data_dir, kind) as place:
        for file in (place / "job.json", place / KINDS[kind]) if kind == "jobs" else (place / KINDS[kind],):
            values = json.loads(file.read_text())
            if kind != "jobs":
                values["id"] = "odd"
            for index, value in change.items():
                key = sorted(values)[index % len(values)]
                if drop:
                    del values[key]
                    if not values:
                        break
                else:
                    values[key] = value
            file.write_text(json.dumps(values))
        os.utime(place, (1e9, 1e9))
        answer = client.get(f"/{kind}")
        assert answer.status_code == 200, answer.text
        listed = answer.json()
        shown = len(listed["items"]) + len(listed["unreadable"])
        assert shown == (2 if kind != "models" else 4)
        for item in listed["items"]:
            one = client.get(f"/{kind}/{quote(item['id'], safe='')}")
            assert one.status_code == 200, one.text
        assert client.get(f"/{kind}/odd").status_code in (200, 404, 503)
        assert "good" in [job.id for job in Jobs(data_dir).open_jobs()]


@examples
@given(content=st.binary(max_size=40), kind=st.sampled_from(sorted(KINDS)))
def test_descriptions_of_any_bytes(client: httpx.Client, data_dir: Path, content: bytes, kind: str) -> None:
    with copy_of(data_dir, kind) as place:
        (place / KINDS[kind]).write_bytes(content)
        assert_listed_as_unreadable(client, data_dir, kind)


# ---- the folder of all, and what is being made ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_in_place_of_the_folder_of_all(tmp_path: Path, kind: str) -> None:
    (tmp_path / kind).write_text("")
    library = Library(tmp_path)
    ask = {"jobs": Jobs(tmp_path).page, "calibrations": library.calibrations.page, "models": library.models.page}
    with pytest.raises(FolderUnreadable, match="cannot be listed"):
        ask[kind]()


def test_an_incomplete_new_job_is_not_listed_as_unreadable(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    job = jobs.create("train", "", {}, step="compute")
    (tmp_path / "jobs" / job.id / "state.json").unlink()
    assert (jobs.page().items, jobs.page().unreadable) == ([], [])
    os.utime(tmp_path / "jobs" / job.id, (time.time() - 61,) * 2)
    assert [entry.folder for entry in jobs.page().unreadable] == [f"jobs/{job.id}"]
    assert jobs.open_jobs() == []
    jobs.move(job.id, "queued", step="compute")  # it was only slow
    assert [found.id for found in jobs.open_jobs()] == [job.id]


def test_progress_and_log_that_cannot_be_read_hide_no_job(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    job = jobs.create("train", "", {}, step="compute")
    folder = tmp_path / "jobs" / job.id
    (folder / "progress.json").write_text('{"done": "much"}')
    os.mkfifo(folder / "log.txt")
    found = jobs.get(job.id)
    assert (found.progress, found.log) == (None, "")


def test_pages_continue_after_unreadable_folders(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    for name in ("a", "b b", "c", "d"):
        job = jobs.create("train", "", {}, step="compute")
        (tmp_path / "jobs" / job.id).rename(tmp_path / "jobs" / name)
    seen: list[str] = []
    cursor = None
    while True:
        page = jobs.page(1, cursor)
        seen += [job.id for job in page.items] + [entry.folder for entry in page.unreadable]
        cursor = page.next
        if cursor is None:
            break
    assert seen == ["d", "c", "jobs/b b", "a"]
    with pytest.raises(DataError, match="not one that a list returned"):
        jobs.page(cursor="x")


def test_an_unreadable_active_model_is_reported(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.activate("mine")
    (tmp_path / "models" / "active.json").write_text(nested(100_000))
    with pytest.raises(FolderUnreadable, match="nested too deeply"):
        library.active_folder()
    library.activate("mine")
    with pytest.raises(UnknownItem):
        library.active_folder()


def test_undefined_numbers_are_null(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": NaN, "b": [Infinity, 1e999], "c": {"d": -Infinity}}')
    assert read_description(tmp_path / "x.json") == {"a": None, "b": [None, None], "c": {"d": None}}


# ---- the feed ----


def _job_message(socket: Any, job: str) -> dict[str, Any]:
    while True:
        message = json.loads(socket.recv(timeout=30))
        if message["type"] == "job" and message["id"] == job:
            return dict(message)


@pytest.mark.parametrize("harm", ["removed", "damaged"])
def test_the_feed_goes_on_when_the_folder_of_an_open_job_goes(served: Server, data_dir: Path, harm: str) -> None:
    jobs = Jobs(data_dir)
    with connect(f"ws://{served.host}/api/v1/feed") as socket:
        job = jobs.create("train", "", REQUEST, step="compute")
        assert _job_message(socket, job.id)["state"] == "queued"
        if harm == "removed":
            shutil.rmtree(data_dir / "jobs" / job.id)
        else:
            (data_dir / "jobs" / job.id / "state.json").write_text("[")
        told = _job_message(socket, job.id)
        assert told["state"] == "interrupted"
        assert {"removed": "was removed", "damaged": "is not JSON"}[harm] in told["error"]["problem"]
        following = jobs.create("train", "", REQUEST, step="compute")
        assert _job_message(socket, following.id)["state"] == "queued"
        jobs.move(following.id, "cancelled")
        assert _job_message(socket, following.id)["state"] == "cancelled"
    for left in (job.id, following.id):
        shutil.rmtree(data_dir / "jobs" / left, ignore_errors=True)


def test_the_feed_goes_on_when_all_jobs_go_and_come_back(served: Server, data_dir: Path) -> None:
    with connect(f"ws://{served.host}/api/v1/feed") as socket:
        (data_dir / "jobs").rename(data_dir / "away")
        (data_dir / "jobs").write_text("")
        try:
            while (message := json.loads(socket.recv(timeout=30)))["type"] != "event":
                pass
            assert (message["kind"], "cannot be listed" in message["message"]) == ("api_task_failed", True)
        finally:
            (data_dir / "jobs").unlink()
            (data_dir / "away").rename(data_dir / "jobs")
        job = Jobs(data_dir).create("train", "", REQUEST, step="compute")
        assert _job_message(socket, job.id)["state"] == "queued"
    shutil.rmtree(data_dir / "jobs" / job.id)
    assert served.app.state.live.failures["jobs"] >= 1
