from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest
import zarr

from models.errors import DataError
from service.process import supervisor as module
from service.process import watched_child
from service.process.supervisor import Supervisor
from service.protocol.addresses import LinkAddress
from service.protocol.clients import SyncEngineClient
from service.protocol.errors import EngineAway, EngineRefusal
from service.settings import Settings, load_settings
from service.store.store import Store

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


def settings_for(folder: Path, **engine: Any) -> Settings:
    values = {"data_dir": folder, "port": 0, "log_level": "warning", "engine": engine}
    return load_settings(command_line=values, environment={})


def wait_for(condition: Callable[[], Any], limit_s: float = 120.0) -> Any:
    deadline = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return answer


def status(client: SyncEngineClient) -> dict[str, Any] | None:
    try:
        return client.status()
    except EngineAway:
        return None


@posix
def test_signals_are_blocked_while_the_first_child_starts() -> None:
    # In a process of its own, since multiprocessing begins more than the child with the first one.
    first = """
import multiprocessing, signal
from service.process.watched_child import _blocked_signals
with _blocked_signals():
    child = multiprocessing.get_context("spawn").Process(target=print)
    child.start()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
child.join()
print(sorted(number.name for number in held), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    said = subprocess.run([sys.executable, "-c", first], capture_output=True, text=True, check=True).stdout
    assert said.split("\n")[-2] == "['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] set()", said


# ---- the real engine ----


@posix
def test_a_killed_engine_comes_back_with_a_new_epoch_and_its_run_is_marked(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, run_at_start=True, record=True, shard_frames=8, free_space_floor_gb=0.0)
    store = Store.open(settings.database)
    with Supervisor(settings) as supervisor, SyncEngineClient(supervisor.address, 2.0) as client:

        def recorded() -> dict[str, Any] | None:
            now = status(client)
            return now if now and (now["ledger"] or {}).get("recorded", 0) >= 16 else None

        before = wait_for(recorded)
        with pytest.raises(DataError, match="is in use by another Bathyscope"):
            Supervisor(settings).start()
        api = supervisor.processes["api"]["pid"]

        os.kill(supervisor.processes["engine"]["pid"], signal.SIGKILL)
        after = wait_for(lambda: (now := status(client)) and now["epoch"] != before["epoch"] and now["run_id"] and now)
        assert supervisor.processes["engine"]["restarts"] == 1
        assert supervisor.processes["api"]["pid"] == api

        killed = store.runs.get(before["run_id"])
        assert killed.state == "interrupted"
        assert "SIGKILL" in (killed.problem or "")
        assert after["run_id"] != before["run_id"]
        # What the database says was recorded can be read; the open shard may be gone.
        assert killed.recording is not None
        image = zarr.open_array(str(tmp_path / killed.recording / "0"), mode="r")
        assert image.shape[0] >= (killed.ledger["recorded"] or 0)
        assert image[:].any(axis=(1, 2)).all()
        assert "engine_restarted" in {event.kind for event in store.events.list().items}

        # The driver confirms the stop, and the run that it ends is complete.
        assert client.request("microscope.stop")["confirmed"] is True
        wait_for(lambda: store.runs.get(after["run_id"]).state == "finished")
        with pytest.raises(EngineRefusal, match="No run is on"):
            client.request("run.stop")
        with pytest.raises(EngineRefusal, match="no model 'another'"):
            client.request("run.start", {"model": "another"})
        with pytest.raises(EngineRefusal, match="do not fit"):
            client.request("run.start", {"modle": None})
        with pytest.raises(EngineRefusal, match="knows no command"):
            client.request("run.strat")

        begun = client.request("run.start", {"name": "by hand"}, 30.0)["id"]
        with pytest.raises(EngineRefusal, match="is on"):
            client.request("run.start")
        microscope = client.request("microscope")
        assert microscope["state"] == "running"
        assert microscope["stage"]["limits"]["low_um"] == -150.0
    # Leaving the block ended the run first.
    ended = store.runs.get(begun)
    assert ended.state == "finished"
    assert ended.ledger["in_flight"] == 0
    store.close()
    assert not Path(supervisor.address.folder).exists()
    Supervisor(settings)._lock_data_directory()  # the directory is free again


@posix
def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    command = "from service.commands.application import main; main()"
    service = subprocess.Popen(
        [sys.executable, "-c", command, "serve", "--data", str(tmp_path), "--port", "0"], stderr=subprocess.DEVNULL
    )
    try:
        children = wait_for(
            lambda: (
                [c for c in psutil.Process(service.pid).children() if "spawn_main" in " ".join(c.cmdline())][1:]
                and psutil.Process(service.pid).children()
            )
        )
        time.sleep(1)
    finally:
        service.kill()
        service.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


# ---- children that misbehave in known ways ----


def crash(*_: Any) -> None:
    sys.exit(3)


def beat_until_stopped(pipe: Connection, **more: Any) -> None:
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.05):
            pipe.send({"state": "running", **more})

    threading.Thread(target=beat, daemon=True).start()
    with contextlib.suppress(EOFError):
        pipe.recv()
    ended.set()


def live(_settings: Settings, _address: LinkAddress, pipe: Connection) -> None:
    beat_until_stopped(pipe)


def serve_nothing(_settings: Settings, _address: LinkAddress, _listener: socket.socket, pipe: Connection) -> None:
    beat_until_stopped(pipe)


def fall_silent(_settings: Settings, _address: LinkAddress, pipe: Connection) -> None:
    pipe.send({"state": "running"})
    time.sleep(600)


def lose_the_camera(_settings: Settings, _address: LinkAddress, pipe: Connection) -> None:
    beat_until_stopped(pipe, frame_age_s=12.0, frame_age_limit_s=10.0)


@pytest.fixture
def with_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    """Start a supervisor whose engine is one of the functions above."""
    started: list[Supervisor] = []

    def start(engine: Callable[..., None], **settings: Any) -> Supervisor:
        monkeypatch.setattr("service.process.engine_child.engine_process", engine)
        monkeypatch.setattr("service.process.api_child.api_process", serve_nothing)
        monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
        monkeypatch.setattr(module, "_END_LIMIT_S", 3.0)
        supervisor = Supervisor(settings_for(tmp_path, **settings))
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        supervisor.stop()


def test_after_five_failures_the_engine_stays_down_and_says_why(
    with_engine: Callable[..., Supervisor], tmp_path: Path
) -> None:
    supervisor = with_engine(crash)
    wait_for(lambda: supervisor.processes["engine"]["state"] == "down")
    engine = supervisor.processes["engine"]
    assert engine["failures"] == 5
    assert engine["problem"] == "it ended with exit status 3"
    away = supervisor.address.away()
    assert "stays down after 5 failures in a row: it ended with exit status 3" in away.problem
    assert supervisor.processes["api"]["state"] in ("starting", "running")
    store = Store.open(tmp_path / "bathyscope.db")
    wait_for(lambda: [event.kind for event in store.events.list().items] == ["engine_down"] + 4 * ["engine_restarted"])
    store.close()


@pytest.mark.parametrize(
    ("engine", "said"), [(fall_silent, "it was silent for"), (lose_the_camera, "the camera gave no frame for 12 s")]
)
def test_a_child_that_hangs_is_killed_and_started_again(
    with_engine: Callable[..., Supervisor], engine: Callable[..., None], said: str
) -> None:
    supervisor = with_engine(engine, heartbeat_limit_s=3.0)
    wait_for(lambda: supervisor.processes["engine"]["restarts"] >= 1)
    assert said in supervisor.processes["engine"]["problem"]


def test_a_gap_of_the_supervisor_itself_restarts_no_child(
    with_engine: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = with_engine(live, heartbeat_limit_s=3.0)
    wait_for(lambda: supervisor.processes["engine"]["state"] == "running")
    engine = psutil.Process(supervisor.processes["engine"]["pid"])
    real, held, rounds = module.wait, threading.Event(), itertools.count()

    def sleep_with_the_machine(pipes: Any, timeout_s: float) -> Any:
        number = next(rounds)
        if number == 0:
            engine.suspend()
            time.sleep(4.5)
            return []
        if number == 4:  # the child beats again some rounds after the supervisor looks again
            engine.resume()
            held.set()
        return real(pipes, timeout_s)

    monkeypatch.setattr(module, "wait", sleep_with_the_machine)
    assert held.wait(30.0)
    time.sleep(1.0)
    assert supervisor.processes["engine"]["restarts"] == 0


def test_a_child_without_a_first_heartbeat_is_started_again(
    with_engine: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_child, "_START_LIMIT_S", 0.0)
    supervisor = with_engine(live)
    wait_for(lambda: supervisor.processes["engine"]["restarts"] >= 1)
    assert "did not start within" in supervisor.processes["engine"]["problem"]


def test_failures_of_a_healthy_child_are_reset(
    with_engine: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = with_engine(live)
    wait_for(lambda: supervisor.processes["engine"]["state"] == "running")
    psutil.Process(supervisor.processes["engine"]["pid"]).kill()
    wait_for(lambda: supervisor.processes["engine"]["restarts"] == 1)
    monkeypatch.setattr(supervisor, "_healthy_s", 0.1)
    wait_for(lambda: supervisor.processes["engine"]["failures"] == 0)
    assert supervisor.address.record.processes()["engine"]["restarts"] == 1


# ---- trouble of the supervisor itself ----


def events(folder: Path) -> list[str]:
    store = Store.open(folder / "bathyscope.db")
    try:
        return [event.kind for event in store.events.list().items]
    finally:
        store.close()


def kill(supervisor: Supervisor, name: str) -> None:
    os.kill(supervisor.processes[name]["pid"], signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_RETRY_S", 0.05)


@posix
def test_a_system_without_descriptors_ends_no_supervision(
    with_engine: Callable[..., Supervisor], quick_retries: None, tmp_path: Path
) -> None:
    import resource

    supervisor = with_engine(live)
    wait_for(lambda: supervisor.processes["api"]["state"] == "running")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        kill(supervisor, "api")
        wait_for(lambda: "Too many open files" in (supervisor.processes["api"]["trouble"] or ""))
        kill(supervisor, "engine")
        wait_for(lambda: supervisor.processes["engine"]["trouble"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for name in ("api", "engine"):
        wait_for(lambda name=name: supervisor.processes[name]["state"] == "running")
        assert supervisor.processes[name]["restarts"] == 1
        assert supervisor.processes[name]["trouble"] is None
    assert wait_for(lambda: {"api_trouble", "engine_trouble", "api_restarted"} <= set(events(tmp_path)))


def test_trouble_with_one_child_is_reported_and_spares_the_others(
    with_engine: Callable[..., Supervisor], quick_retries: None
) -> None:
    supervisor = with_engine(live)
    wait_for(lambda: supervisor.processes["api"]["state"] == "running")
    engine = supervisor._children[0]
    good, engine._arguments = engine._arguments, (lambda: None,)  # arguments that cannot be pickled prevent the start
    kill(supervisor, "engine")
    wait_for(lambda: supervisor.processes["engine"]["trouble"])
    kill(supervisor, "api")
    wait_for(lambda: supervisor.processes["api"]["restarts"] == 1)
    assert "The engine cannot be checked or restarted" in wait_for(lambda: supervisor.address.away().problem)
    engine._arguments = good
    wait_for(lambda: supervisor.processes["engine"]["state"] == "running")
    # It was tried many times, and failed once.
    assert supervisor.processes["engine"]["failures"] == 1


@posix
def test_a_record_that_cannot_be_written_ends_no_supervision_and_comes_back(
    with_engine: Callable[..., Supervisor], quick_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.protocol.process_record._LIMIT_S", 0.5)
    supervisor = with_engine(live)
    wait_for(lambda: supervisor.processes["api"]["state"] == "running")
    folder = Path(supervisor.address.folder)
    # As after a clean-up program. A file takes the place of the folder.
    for entry in folder.iterdir():
        entry.unlink()
    folder.rmdir()
    folder.write_text("")
    kill(supervisor, "api")
    wait_for(lambda: supervisor.processes["api"]["restarts"] == 1)
    wait_for(lambda: supervisor.processes["api"]["state"] == "running")
    assert supervisor.address.record.processes() == {}
    folder.unlink()
    record = wait_for(supervisor.address.record.processes)
    assert record["api"]["restarts"] == 1
    assert folder.stat().st_mode & 0o777 == 0o700


def test_an_old_record_is_reported(with_engine: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = with_engine(live)
    address = wait_for(lambda: supervisor.address if supervisor.address.record.processes() else None)
    supervisor.stop()
    Path(address.folder).mkdir()
    address.record.write({"engine": {"state": "running"}})
    tcp = LinkAddress(address.folder, *(f"tcp://127.0.0.1:{port}" for port in (1, 2, 3)))
    assert tcp.trouble() is None
    monkeypatch.setattr("service.protocol.process_record._LIMIT_S", 0.0)
    assert "has not written its record" in (tcp.trouble() or "")
    assert "socket files" in (address.trouble() or "")
    assert LinkAddress.remove(address.folder)


def test_the_supervision_continues_after_a_failed_round(
    with_engine: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = with_engine(live)
    wait_for(lambda: supervisor.processes["api"]["state"] == "running")
    failed = threading.Event()

    def fail(*_: Any) -> None:
        failed.set()
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(module, "wait", fail)
        assert failed.wait(30.0)
    kill(supervisor, "api")
    wait_for(lambda: supervisor.processes["api"]["restarts"] == 1)


def hang_in_a_driver(_settings: Settings, _address: LinkAddress, pipe: Connection) -> None:
    """A child that ignores the request to end."""
    with contextlib.suppress(OSError):
        while True:
            pipe.send({"state": "running", "run_id": None})
            time.sleep(0.05)
    time.sleep(600)


def test_a_child_that_does_not_end_is_ended_within_the_limit(
    with_engine: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = with_engine(hang_in_a_driver)
    monkeypatch.setattr(module, "_END_LIMIT_S", 0.5)
    wait_for(lambda: supervisor.processes["engine"]["state"] == "running")
    engine = psutil.Process(supervisor.processes["engine"]["pid"])
    supervisor.stop()
    assert not engine.is_running()


def count_threads(_settings: Settings, _address: LinkAddress, pipe: Connection) -> None:
    """Send the number of threads of linear algebra after the import of numpy."""
    import numpy as np
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    beat_until_stopped(pipe, threads=[pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])


@pytest.mark.parametrize(("torch_threads", "threads"), [(None, 1), (2, 2)])
def test_linear_algebra_of_the_engine_takes_the_threads_of_the_settings(
    with_engine: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch, torch_threads: int | None, threads: int
) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    supervisor = with_engine(count_threads, torch_threads=torch_threads)
    engine = supervisor._children[0]
    assert wait_for(lambda: engine.beat.get("threads")) == [threads]
    # What a child starts with does not stay with the supervisor.
    assert "OMP_NUM_THREADS" not in os.environ


def test_pauses_grow_fourfold_and_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = Supervisor(settings_for(tmp_path))
    child = supervisor._child("api", crash)
    monkeypatch.setattr(module.time, "monotonic", lambda: 1000.0)
    pauses = []
    for _ in range(8):
        supervisor._fail(child, "it ended by itself")
        pauses.append(round(child.resume_s - 1000.0, 3))
    assert pauses == [0.1, 0.4, 1.6, 6.4, 25.6, 30.0, 30.0, 30.0]


# ---- files of an earlier supervisor ----


@pytest.mark.parametrize("left", ["data/.sockets-01234567", "data", "another.sockets-01234567", ""])
def test_a_folder_that_may_belong_to_others_is_kept(tmp_path: Path, left: str) -> None:
    data = tmp_path / "data"
    folder = tmp_path / left
    folder.mkdir(parents=True, exist_ok=True)
    data.mkdir(exist_ok=True)
    (folder / "thesis.txt").write_text("the only copy")
    (data / ".link").write_text(str(folder))
    supervisor = Supervisor(settings_for(data))
    assert supervisor._clean_up()
    assert (folder / "thesis.txt").read_text() == "the only copy"


@posix
def test_the_folder_of_an_earlier_supervisor_is_removed_but_no_target_of_a_link(tmp_path: Path) -> None:
    address = LinkAddress.create(tmp_path)
    address.record.write({})
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{address.folder}/live")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "processes.json").write_text("{}")
    link = tmp_path / ".sockets-abcdefgh"
    link.symlink_to(theirs)
    assert not LinkAddress.remove(str(link))
    assert (theirs / "processes.json").exists()
    assert LinkAddress.remove(address.folder)
    assert not Path(address.folder).exists()


# ---- refusals before anything is started ----


def test_a_taken_port_is_refused_and_the_directory_is_free_again(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = load_settings(command_line={"data_dir": tmp_path, "port": port}, environment={})
        for _ in range(2):
            with pytest.raises(DataError, match=f"Port {port} at 127.0.0.1 cannot be used"):
                Supervisor(settings).start()


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    settings = load_settings(
        command_line={"data_dir": tmp_path, "host": "no.such.host.invalid", "access_key": "x" * 16}, environment={}
    )
    with pytest.raises(DataError, match="cannot be used"):
        Supervisor(settings).start()


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(DataError, match="is a file"):
        Supervisor(settings_for(path)).start()


def test_open_runs_are_marked_at_the_start(with_engine: Callable[..., Supervisor], tmp_path: Path) -> None:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    run = store.runs.create(model_id="m", record=False)
    with_engine(live)
    assert store.runs.get(run.id).state == "interrupted"
    store.close()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, "ended by itself"),
        (0, "ended by itself"),
        (-11, "SIGSEGV"),
        (-200, "signal 200"),
        (7, "exit status 7"),
    ],
)
def test_the_reason_of_an_exit_is_named(code: int | None, said: str) -> None:
    assert said in watched_child._exit_reason(code)
