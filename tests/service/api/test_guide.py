"""The examples of docs/api-guide.md work as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.files.jobs import Jobs
from service.files.model_archive import export_model
from service.protocol import wire
from service.settings import Settings
from tests.conftest import ROOT, need
from tests.models.test_training import small_calibration
from tests.service.api_peer import Peer, Server, filled_store, link, recorded_run
from tests.service.files.test_model_archive import own_model

GUIDE = (ROOT / "docs" / "api-guide.md").read_text(encoding="utf-8")
CURLS = [line for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL) for line in block.strip().splitlines()]
PROGRAMS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A service with a run and tracks that flow: its address, and what stands for the ids in the guide."""
    folder = tmp_path_factory.mktemp("guide")
    store, run = filled_store(folder)
    jobs = Jobs(folder)
    job = jobs.create("train", "", {}, step="compute")
    small_calibration().save(folder / "calibrations" / "small")
    (folder / "calibrations" / "small" / "report.html").write_text("<!doctype html>")
    own_model(folder / "models" / "carried", "carried")
    exported = folder / "exported.zip"
    export_model(own_model(folder / "sent", "sent"), exported)
    old, recorded = store.runs.create(model_id="reference", record=False).id, recorded_run(folder, store)
    store.runs.finish(old)
    kept = recorded_run(folder, store)
    store.catch_ups.complete(kept)
    ids = {
        "OLD_RUN": old,
        "RECORDED_RUN": recorded,
        "KEPT_RUN": kept,
        "RUN": run,
        "JOB": job.id,
        "CALIBRATION": "small",
        "MODEL": "reference-10x-0.45-full",
        "TRAVELLER": "carried",
        "EXPORTED": str(exported),
        "SWEEP": str(exported),
    }
    with link() as address:
        peer = Peer(address, store, jobs)
        server = Server(Settings(data_dir=folder), address, store, Path("none"))
        ending = threading.Event()

        def publish() -> None:
            sequence = 0
            while not ending.wait(0.05):
                sequence += 1
                peer.publish_tracks(sequence)
                peer.publish_status(active_model_id=ids["MODEL"])

        publisher = threading.Thread(target=publish)
        publisher.start()
        yield server.host, ids
        ending.set()
        publisher.join()
        server.close()
        peer.close()
    store.close()


@pytest.mark.parametrize("command", CURLS)
def test_curl(served: tuple[str, dict[str, str]], tmp_path: Path, command: str) -> None:
    need("curl")
    if "/acquisitions" in command:
        need("useq")
    host, ids = served
    command = command.replace("127.0.0.1:8000", host)
    for word, stands_for in ids.items():
        command = command.replace(word, stands_for)
    command = command.replace("curl ", "curl --silent --show-error --fail-with-body --retry 5 ", 1)
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    written = list(tmp_path.iterdir())
    assert written[0].stat().st_size > 0 if " -o " in command else done.stdout or "-X DELETE" in command


@pytest.mark.parametrize("program", PROGRAMS)
def test_python(served: tuple[str, dict[str, str]], tmp_path: Path, program: str) -> None:
    path = tmp_path / "example.py"
    path.write_text(program.replace("127.0.0.1:8000", served[0]), encoding="utf-8")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r"track 2 at a depth of \d+\.0 µm|^\d+ \['track_id', 'frame'", done.stdout), done.stdout


def test_guide_names_every_kind_of_message() -> None:
    for number, name in wire.KINDS.items():
        assert f"{number} {name}" in GUIDE
    assert len(CURLS) >= 28
    assert len(PROGRAMS) == 2
