"""The process that copies, as the supervisor starts it: heartbeats, a server away and back, and its end."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from service.copies.process import copies_process
from service.copies.status import read_status
from service.process.children import STOP
from service.settings import Settings, load_settings
from service.store.store import Store
from tests.s3_server import BUCKET, S3Server
from tests.service.api_peer import recorded_run


def settings_for(folder: Path, url: str) -> Settings:
    values = {"data_dir": folder, "log_level": "warning", "copy_off": {"url": url}}
    return load_settings(command_line=values, environment={})


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 120
    while not (answer := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return answer


def test_the_process_copies_and_ends(server: S3Server, tmp_path: Path) -> None:
    settings, context = settings_for(tmp_path, f"s3://{BUCKET}/scope"), multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with closing(Store.open(settings.database)) as store:
        store.migrate()
        run = recorded_run(tmp_path, store)

        def state() -> str | None:
            copy = store.runs.get(run).recording_copy
            return None if copy is None else copy.state

        server.go_away()
        process = context.Process(target=copies_process, args=(settings, theirs))
        process.start()
        try:
            wait_for(lambda: read_status(tmp_path).get("place_up") is False, "it notices that the server is away")
            assert state() == "waiting"
            server.come_back()
            wait_for(lambda: state() == "verified", "it goes on when the server is back")
            assert ours.recv() == {"state": "running"}
            wait_for(lambda: read_status(tmp_path).get("verified_recordings") == 1, "its figures are written")
            assert read_status(tmp_path)["place_up"] is True
            ours.send(STOP)
            process.join(60)
            assert process.exitcode == 0
        finally:
            process.kill()
            process.join()
        kinds = [event.kind for event in reversed(store.events.list().items)]
        assert kinds == ["copy_place_away", "copy_place_back", "recording_copied"]


@pytest.mark.parametrize("url", ["share", "ftp://host/x", "s3://B", ""])
def test_a_wrong_place_is_refused_in_the_settings(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match=r"copy_off\.url"):
        settings_for(tmp_path, url)
