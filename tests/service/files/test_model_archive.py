"""A model as one file: exported, carried and imported, or refused with the reason."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from models.model_card import ModelCard
from models.weights import reference_model
from service.files.library import Library
from service.files.model_archive import ModelExists, export_model, import_model, is_archive, unpack_model

MANIFEST = "bathyscope-model.json"


def own_model(folder: Path, model_id: str = "mine") -> Path:
    """A model in a folder of its own, with patterns and a name."""
    shutil.copytree(reference_model("live"), folder)
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**described, "id": model_id}))
    (folder / "about.json").write_text('{"name": "20x water"}')
    (folder / "psf.zarr" / "c").mkdir(parents=True)
    (folder / "psf.zarr" / "c" / "0").write_bytes(b"pattern")
    (folder / "notes.txt").write_text("not a file of a model")
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    export_model(own_model(tmp_path / "source" / "model"), tmp_path / "model.zip")
    return tmp_path / "model.zip"


def test_a_model_comes_back_whole(tmp_path: Path, archive: Path) -> None:
    again = export_model(tmp_path / "source" / "model", tmp_path / "again.zip")
    assert again.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (again.id, again.size_bytes) == ("mine", archive.stat().st_size)
    assert is_archive(archive)
    library = Library(tmp_path / "data")
    assert import_model(archive, tmp_path / "data", library, again.sha256) == "mine"
    folder = tmp_path / "data" / "models" / "mine"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"model.json", "weights.safetensors", "about.json", "CARD.md", "psf.zarr/c/0"}
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "source" / "model" / name).read_bytes()
    (item,) = (item for item in library.models.page().items if item.source == "library")
    assert (item.id, item.name, item.bit_depth) == ("mine", "20x water", 16)
    with pytest.raises(ModelExists, match="a model 'mine' here already"):
        import_model(archive, tmp_path / "data", library)
    assert [path.name for path in (tmp_path / "data" / "models").iterdir()] == ["mine"]


def test_an_id_that_is_no_name_of_a_folder(tmp_path: Path) -> None:
    export_model(own_model(tmp_path / "model", "../../etc/x 20x"), tmp_path / "model.zip")
    library = Library(tmp_path / "data")
    assert import_model(tmp_path / "model.zip", tmp_path / "data", library) == "../../etc/x 20x"
    assert library.models.folder("../../etc/x 20x").parent == tmp_path / "data" / "models"


def test_a_shipped_model_is_here_already(tmp_path: Path) -> None:
    export_model(reference_model("live"), tmp_path / "live.zip")
    with pytest.raises(ModelExists):
        import_model(tmp_path / "live.zip", tmp_path / "data", Library(tmp_path / "data"))


def rewritten(archive: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """The archive with other entries."""
    with zipfile.ZipFile(archive) as opened:
        entries = {name: opened.read(name) for name in opened.namelist()}
    change(entries)
    with zipfile.ZipFile(archive, "w") as written:
        for name, content in entries.items():
            written.writestr(name, content)
    return archive


def with_manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, bytes]], None]:
    def apply(entries: dict[str, bytes]) -> None:
        manifest = json.loads(entries[MANIFEST])
        change(manifest)
        entries[MANIFEST] = json.dumps(manifest).encode()

    return apply


def with_file(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    """An entry with its right size and digest in the manifest."""

    def apply(entries: dict[str, bytes]) -> None:
        entries[name] = content
        manifest = json.loads(entries[MANIFEST])
        manifest["members"] = [member for member in manifest["members"] if member["name"] != name]
        stated = {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        entries[MANIFEST] = json.dumps({**manifest, "members": [*manifest["members"], stated]}).encode()

    return apply


def described(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    """Another model.json, rightly named in the manifest."""

    def apply(entries: dict[str, bytes]) -> None:
        with_file("model.json", json.dumps({**json.loads(entries["model.json"]), **changes}).encode())(entries)

    return apply


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda entries: entries.pop(MANIFEST), "so it is no exported model"),
        (lambda entries: entries.update({MANIFEST: b"{"}), "is not JSON"),
        (lambda entries: entries.update({MANIFEST: b"[" * 100_000}), "is not JSON"),
        (lambda entries: entries.update({MANIFEST: b" " * 9_000_000}), "8,388,608 are the most"),
        (with_manifest(lambda manifest: manifest.update(format=2)), "breaks a rule: format"),
        (with_manifest(lambda manifest: manifest.update(more=1)), "breaks a rule: more"),
        (with_manifest(lambda manifest: manifest.update(members=[])), "breaks a rule: members"),
        (with_manifest(lambda manifest: manifest.update(id="another")), "by its manifest, and of 'mine'"),
        (with_manifest(lambda manifest: manifest["members"].append(manifest["members"][0])), "names a file twice"),
        (with_manifest(lambda manifest: manifest["members"][0].update(bytes=1)), "is not the file of the manifest"),
        (lambda entries: entries.update({"weights.safetensors": b"torn"}), "is not the file of the manifest"),
        (lambda entries: entries.update({"extra": b"x"}), "holds 'extra', which its manifest does not name"),
        (lambda entries: entries.pop("about.json"), "names 'about.json', which it does not hold"),
        (with_file("run.sh", b"rm"), "holds 'run.sh', which is no file of a model"),
        (with_file("psf.zarr/../../x", b"x"), "leads out of its folder"),
        (with_file("weights.safetensors", b"torn"), "the two are not of one training"),
        (described(architecture="other"), "the network 'other', which is not installed here"),
        (described(kind="picture"), "is of kind 'picture'"),
    ],
)
def test_archives_that_are_refused(
    tmp_path: Path, archive: Path, change: Callable[[dict[str, bytes]], Any], says: str
) -> None:
    rewritten(archive, change)
    with pytest.raises(DataError) as refusal:
        import_model(archive, tmp_path / "data", Library(tmp_path / "data"))
    assert says in refusal.value.problem
    assert refusal.value.remedy
    models = tmp_path / "data" / "models"
    assert not models.exists() or not any(models.iterdir())
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "model.zip", "data"}


def test_weights_that_are_no_numbers(tmp_path: Path, archive: Path) -> None:
    """A pickle could run code where it is loaded; only safetensors are accepted, whatever the digests say."""

    def pickled(entries: dict[str, bytes]) -> None:
        weights = b"\x80\x04cos\nsystem\n(S'x'\ntR."
        with_file("weights.safetensors", weights)(entries)
        described(weights_sha256=hashlib.sha256(weights).hexdigest())(entries)

    rewritten(archive, pickled)
    with pytest.raises(DataError, match="are no safetensors file"):
        unpack_model(archive, tmp_path / "out")


@pytest.mark.parametrize(("digest", "says"), [("0" * 64, "was changed or damaged"), ("abc", "is no SHA-256 digest")])
def test_a_digest_that_differs(tmp_path: Path, archive: Path, digest: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        unpack_model(archive, tmp_path / "out", digest)
    assert not (tmp_path / "out").exists()


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no model\.json"):
        export_model(tmp_path, tmp_path / "x.zip")
    folder = own_model(tmp_path / "model")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(DataError, match=r"holds no weights\.safetensors"):
        export_model(folder, tmp_path / "x.zip")
    assert not is_archive(tmp_path / "x.zip")
    assert ModelCard.load(reference_model("live")).id == "reference-10x-0.45-live"
