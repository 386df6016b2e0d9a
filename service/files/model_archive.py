"""A model as one file: a ZIP file of its folder, with a manifest of sizes and digests.

The manifest is the first entry. Import accepts exactly the files that it names,
with their digests, and only the kinds of files that a model has. The weights
are in safetensors, which holds numbers and no code.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import DataError
from models.identity import new_id
from models.model_files import DESCRIPTION, PSF, WEIGHTS
from models.networks import available_architectures
from service.files.archives import Archive, ArchiveLimits, file_sha256, files_of, pack
from service.files.descriptions import shown_name
from service.files.jobs import is_id
from service.files.library import Library
from service.files.outputs import complete_output, explain_full_disk
from service.version import installed_version

if TYPE_CHECKING:
    from models.model_card import ModelCard

__all__ = [
    "MOST_ARCHIVE_BYTES",
    "ModelExists",
    "PackedModel",
    "export_model",
    "import_model",
    "is_archive",
    "unpack_model",
]

MOST_ARCHIVE_BYTES = 1024 * 1024 * 1024
"""The weights of the largest network have about 100 MB; the patterns beside them a few."""

_LIMITS = ArchiveLimits(members=20_000, size_bytes=MOST_ARCHIVE_BYTES)
_MANIFEST = "bathyscope-model.json"
_MOST_MANIFEST_BYTES = 8 * 1024 * 1024
_FORMAT = 1
_FILES = (DESCRIPTION, WEIGHTS, "about.json", "CARD.md")
"""Files of a model's folder; beside them only those of the patterns in `PSF`."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ModelExists(DataError):
    """A model of this id is here already; which of the two a script or a run means would not be clear."""

    kind = "conflict"


class _Member(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=300)]
    bytes: Annotated[int, Field(ge=0, le=MOST_ARCHIVE_BYTES)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["bathyscope model archive"]
    format: Literal[1]
    id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
    bathyscope: Annotated[str, Field(max_length=100)]
    members: Annotated[list[_Member], Field(min_length=2, max_length=20_000)]


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A model in one file.

    Attributes
    ----------
    id : of the model
    sha256 : digest of the file, in hexadecimal digits
    size_bytes : of the file
    """

    id: str
    sha256: str
    size_bytes: int


def export_model(folder: Path, target: Path) -> PackedModel:
    """Write the model in `folder` to the ZIP file `target`; the same model gives the same bytes.

    Raises
    ------
    DataError
        When the folder holds no model, its weights are missing or not those of its description, or the disk is full.
    """
    from models.model_card import ModelCard  # loads numba

    card = ModelCard.load(folder)
    members = {name: path for name, path in files_of(folder).items() if _is_known(name)}
    if WEIGHTS not in members:
        raise DataError(f"{folder} holds no {WEIGHTS}.", "Restore the folder from a copy, or train again.")
    manifest = {
        "kind": "bathyscope model archive",
        "format": _FORMAT,
        "id": card.id,
        "bathyscope": installed_version(),
        "members": [
            {"name": name, "bytes": path.stat().st_size, "sha256": file_sha256(path)} for name, path in members.items()
        ],
    }
    with explain_full_disk(target):
        pack({_MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode(), **members}, target)
    return PackedModel(card.id, file_sha256(target), target.stat().st_size)


def is_archive(path: Path) -> bool:
    """Whether a file is an exported model, which a new one may replace."""
    try:
        with Archive(path, _LIMITS) as opened:
            return _MANIFEST in opened.names
    except DataError:
        return False


def unpack_model(archive: Path, folder: Path, sha256: str | None = None) -> ModelCard:
    """Unpack a model into the new folder `folder`, and check every file.

    Parameters
    ----------
    archive : Path
        A file of `export_model`.
    folder : Path
        Made here; what was written is left there when the archive is refused.
    sha256 : str, optional
        Digest that the archive must have.

    Raises
    ------
    DataError
        When it is no archive of a model, has another digest, holds other files than its manifest names, or its network
        is not installed here.
    OSError
        When `folder` cannot be written.
    """
    name = shown_name(archive.name)
    if sha256 is not None:
        _check_digest(archive, name, sha256)
    with Archive(archive, _LIMITS) as opened:
        manifest = _manifest(opened, name)
        _check_names(opened, manifest, name)
        for member in manifest.members:
            if opened.size_bytes(member.name) != member.bytes:
                raise _differs(member, name)
            if opened.unpack(member.name, folder / member.name) != member.sha256:
                raise _differs(member, name)
    from models.model_card import ModelCard  # loads numba

    card = ModelCard.load(folder)
    if card.id != manifest.id:
        raise DataError(
            f"{name} is of model {manifest.id!r} by its manifest, and of {card.id!r} by its {DESCRIPTION}.",
            "Export the model again.",
        )
    if card.architecture not in available_architectures():
        raise DataError(
            f"The model {card.id} has the network {card.architecture!r}, which is not installed here.",
            "Install the package of that network, then import the model again.",
        )
    _check_weights(folder / WEIGHTS, name)
    return card


def import_model(archive: Path, data_dir: Path, library: Library, sha256: str | None = None) -> str:
    """Unpack a model into the library of a data directory, and return its id.

    Parameters
    ----------
    archive, sha256 : as of `unpack_model`
    data_dir : Path
    library : Library
        Of that data directory.

    Raises
    ------
    ModelExists
        When the library has a model of this id.
    DataError
        As `unpack_model`, or when the data directory cannot be written.
    """
    if sha256 is not None:
        _check_digest(archive, shown_name(archive.name), sha256)
    model_id = _stated_id(archive)
    _refuse_known(library, model_id)
    folder = data_dir / "models" / (model_id if is_id(model_id) else new_id())
    with complete_output(folder, lambda _: False) as aside:
        unpack_model(archive, aside)
        _refuse_known(library, model_id)
    return model_id


def _stated_id(archive: Path) -> str:
    with Archive(archive, _LIMITS) as opened:
        return _manifest(opened, shown_name(archive.name)).id


def _refuse_known(library: Library, model_id: str) -> None:
    cursor: str | None = None
    while True:
        page = library.models.page(1000, cursor)
        if any(item.id == model_id for item in page.items):
            raise ModelExists(
                f"There is a model {model_id!r} here already.", "Use that one, or remove its folder before the import."
            )
        cursor = page.next
        if cursor is None:
            return


def _is_known(name: str) -> bool:
    """Whether a model's folder has a file of this path."""
    return name in _FILES or name.startswith(f"{PSF}/")


def _check_digest(archive: Path, name: str, sha256: str) -> None:
    if not _SHA256.fullmatch(sha256):
        raise DataError(
            f"{sha256[:80]!r} is no SHA-256 digest.", "Give the 64 hexadecimal digits that the export printed."
        )
    try:
        found = file_sha256(archive)
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror}).", "Check the path and its permissions.") from error
    if found != sha256:
        raise DataError(
            f"{name} has the SHA-256 digest {found}, not {sha256}: it was changed or damaged on its way.",
            "Nothing was imported. Get the file again from its source.",
        )


def _manifest(opened: Archive, name: str) -> _Manifest:
    if _MANIFEST not in opened.names:
        raise DataError(
            f"{name} has no {_MANIFEST}, so it is no exported model.", "Give a file of `bathyscope model export`."
        )
    content = opened.read(_MANIFEST, _MOST_MANIFEST_BYTES)
    try:
        return _Manifest.model_validate(json.loads(content))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "it"
        raise DataError(
            f"The manifest of {name} breaks a rule: {shown_name(where)[:80]}: {fault['msg']}.",
            "Export the model again with this version of Bathyscope.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"The manifest of {name} is not JSON.", "Get the file again from its source.") from error


def _check_names(opened: Archive, manifest: _Manifest, name: str) -> None:
    stated, held = [member.name for member in manifest.members], set(opened.names) - {_MANIFEST}
    for other in sorted(held.symmetric_difference(stated)):
        where = "which its manifest does not name" if other in held else "which it does not hold"
        raise DataError(
            f"{name} {'holds' if other in held else 'names'} {shown_name(other)[:120]!r}, {where}.",
            "Get the file again from its source.",
        )
    if len(set(stated)) != len(stated):
        raise DataError(f"The manifest of {name} names a file twice.", "Get the file again from its source.")
    for other in stated:
        if not _is_known(other):
            raise DataError(
                f"{name} holds {shown_name(other)[:120]!r}, which is no file of a model.",
                "Give a file of `bathyscope model export`.",
            )
    for needed in (DESCRIPTION, WEIGHTS):
        if needed not in held:
            raise DataError(f"{name} holds no {needed}.", "Export the model again.")


def _differs(member: _Member, name: str) -> DataError:
    return DataError(
        f"{shown_name(member.name)} in {name} is not the file of the manifest: its size or SHA-256 digest differs.",
        "Nothing was imported. Get the file again from its source.",
    )


def _check_weights(path: Path, name: str) -> None:
    """Refuse weights that are no safetensors file; the network itself is compared when the model is loaded."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as weights:
            weights.keys()
    except safetensors.SafetensorError as error:
        raise DataError(
            f"The weights in {name} are no safetensors file ({error}).", "Export the model again."
        ) from error
