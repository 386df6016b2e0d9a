"""Names and deletion of calibrations and models, and what keeps them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import DataError
from models.training import TrainingSettings, train
from models.weights import reference_model
from service.files.jobs import Jobs
from service.files.library import Library
from service.files.library_changes import LibraryChanges
from service.settings import load_settings
from service.store.errors import InUse, UnknownItem
from service.store.store import Store
from tests.models.test_training import small_calibration


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a calibration and a model without a network made from it."""
    folder = tmp_path_factory.mktemp("made")
    calibration = small_calibration()
    calibration.save(folder / "calibrations" / "small")
    settings = TrainingSettings(architecture="matched", size="filter")
    train(calibration, folder / "models" / "matched", settings, model_id="matched")
    return folder


class Bench:
    """Changes in a copy of the data directory; `used` are the models of the engine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.used = folder, set[str]()
        self.store = Store.open(load_settings(command_line={"data_dir": folder}, environment={}).database)
        self.store.migrate()
        self.library, self.jobs = Library(folder), Jobs(folder)
        self.changes = LibraryChanges(self.library, self.store, self.jobs, lambda: self.used)


@pytest.fixture
def bench(made: Path, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(Path(shutil.copytree(made, tmp_path / "data")))
    yield bench
    bench.store.close()


def test_names_are_changed_and_the_rest_is_kept(bench: Bench) -> None:
    about = bench.folder / "models" / "matched" / "about.json"
    about.write_text(json.dumps({"name": "old", "job": "7"}))
    assert bench.changes.rename_model("matched", "20x oil").name == "20x oil"
    assert json.loads(about.read_text()) == {"name": "20x oil", "job": "7"}
    assert bench.changes.rename_calibration("small", "beads").name == "beads"
    assert bench.library.calibrations.description("small")["name"] == "beads"


def test_a_model_is_deleted_and_then_its_calibration(bench: Bench) -> None:
    with pytest.raises(InUse, match="needed by the model matched") as refused:
        bench.changes.delete_calibration("small")
    assert "first" in refused.value.remedy
    bench.changes.delete_model("matched")
    bench.changes.delete_calibration("small")
    assert not list((bench.folder / "models").iterdir())
    assert not list((bench.folder / "calibrations").iterdir())
    for change in (bench.changes.delete_model, bench.changes.delete_calibration):
        with pytest.raises(UnknownItem):
            change("matched")


def test_what_is_in_use_stays(bench: Bench) -> None:
    shipped = json.loads((reference_model("live") / "model.json").read_text())["id"]
    with pytest.raises(InUse, match="is shipped"):
        bench.changes.delete_model(shipped)
    with pytest.raises(InUse, match="is shipped"):
        bench.changes.rename_model(shipped, "mine")
    bench.used = {"matched"}
    with pytest.raises(InUse, match="is in use"):
        bench.changes.delete_model("matched")
    bench.used = set()
    bench.library.activate("matched")
    with pytest.raises(InUse, match="is in use"):
        bench.changes.delete_model("matched")
    bench.library.activate(shipped)
    job = bench.jobs.create("reprocess", "", {"run": "r", "model": "matched"}, step="compute")
    with pytest.raises(InUse, match=rf"Job {job.id} \(reprocess\)"):
        bench.changes.delete_model("matched")
    bench.jobs.move(job.id, "cancelled")
    bench.store.runs.create(run_id="r", model_id="matched", record=True, recording="r.ome.zarr", settings={})
    bench.store.runs.finish("r", ledger={}, smooth=True)
    with pytest.raises(InUse, match="Frames of run r"):
        bench.changes.delete_model("matched")
    assert bench.library.models.folder("matched").is_dir()


def test_a_folder_that_cannot_be_removed_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("service.files.library_changes.os.replace", fail)
    with pytest.raises(DataError, match=r"cannot be removed \(Permission denied"):
        bench.changes.delete_model("matched")
    assert bench.library.models.folder("matched").is_dir()


def test_what_an_interrupted_deletion_left_is_removed_with_the_next(bench: Bench) -> None:
    left = bench.folder / "models" / ".deleted-old"
    left.mkdir()
    (left / "model.json").write_text("{}")
    assert {item.id for item in bench.library.models.items() if item.source == "library"} == {"matched"}
    bench.changes.delete_model("matched")
    assert not left.exists()
