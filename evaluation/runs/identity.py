"""Identity of a run of `reproduce`: everything that its tables depend on, so that parts of different runs never mix.

Files are identified by their digests, not by their names or dates. The code is
identified by the digest of its syntax trees without comments and docstrings,
so changes of the text alone keep the identity.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.model_card import ModelCard
from models.weights import reference_model

__all__ = ["Identity", "code_digest", "differences", "folder_digest", "localizer_digest", "run_identity"]

Identity = dict[str, Any]

_OWN_PACKAGES = tuple(Path(__file__).parents[2] / name for name in ("evaluation", "models"))
"""Folders of the project's packages that compute tables."""

_KNOWN_BY = ("model.json", "weights.safetensors", "calibration.json", "psf.zarr")
"""Files that define a model or a calibration; reports and display names do not."""

_PACKAGES = ("numpy", "scipy", "numba", "torch", "smappy-smlm", "picassosr", "psf-generator", "scikit-image")
"""Packages that compute figures; some are not everywhere."""

_ONLY_SHOW = ("report", "comparison.py", "provenance.py", "results.py", "targets.py", "model_card.py")
"""Files and folders of code that only draws and writes tables."""

_DIGITS = 16


def run_identity(
    *,
    optics: str,
    calibration: Path | None,
    methods: Sequence[str],
    models: Iterable[Path],
    quick: bool,
    seed: int,
    seconds: float,
    minutes: float,
) -> Identity:
    """Identity of a run, as plain values for JSON.

    Parameters
    ----------
    optics : str
        ``"exact"`` or ``"hidden"``.
    calibration : Path or None
        Folder; None when it is made from the sweep, which code and seeds settle.
    methods : sequence of str
    models : iterable of Path
        Folders of all networks that take part, shipped ones too.
    quick : bool
    seed : int
    seconds : float
        Of processor time for a method and condition.
    minutes : float
        Of wall time for a training that is part of an experiment.

    Raises
    ------
    DataError
        When a folder holds no model.
    """
    return {
        "optics": optics,
        "calibration": None if calibration is None else folder_digest(calibration),
        "methods": list(methods),
        "models": {ModelCard.load(folder).id: folder_digest(folder) for folder in models},
        "quick": quick,
        "seed": seed,
        "seconds": seconds,
        "minutes": minutes,
        "code": _own_code(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def differences(before: Identity, now: Identity) -> list[str]:
    """Where two identities differ, in words; nothing when they are the same."""
    found = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += [f"{key}: {each}" for each in differences(old, new)]
        elif old != new:
            found.append(f"{key} was {old} and is {new}")
    return found


def folder_digest(folder: Path) -> str:
    """Digest of a model or calibration folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if inside.parts[0] in _KNOWN_BY and path.is_file():
            digest.update(f"{inside.as_posix()}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:_DIGITS]


def localizer_digest(model: Path | None) -> str:
    """Digest of what the localizations of a model and its joint fit depend on: code, weights and packages.

    Parameters
    ----------
    model : Path or None
        Folder; None for the shipped one.
    """
    digest = hashlib.sha256(code_digest(_OWN_PACKAGES[1], without=("tracking", "measures")).encode())
    digest.update(folder_digest(model or reference_model("full")).encode())
    digest.update(repr([_version(name) for name in _PACKAGES]).encode())
    return digest.hexdigest()[:_DIGITS]


@cache
def _own_code() -> str:
    """Of the code that runs: files that are changed later belong to the next process."""
    return code_digest(*_OWN_PACKAGES)


def code_digest(*roots: Path, without: Sequence[str] = ()) -> str:
    """Digest of the Python code beneath `roots` but what only shows; comments, docstrings and layout are left out.

    Files and folders with a name in `without` are left out too.
    """
    left_out = {*_ONLY_SHOW, *without}
    digest = hashlib.sha256()
    sources = [(folder, path) for folder in roots for path in sorted(folder.rglob("*.py"))]
    for folder, path in sources:
        if not set(path.relative_to(folder).parts).isdisjoint(left_out):
            continue
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if documented and ast.get_docstring(node, clean=False) is not None:  # type: ignore[arg-type]
                node.body = node.body[1:]  # type: ignore[attr-defined]
        digest.update(f"{path.relative_to(folder).as_posix()}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()[:_DIGITS]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
