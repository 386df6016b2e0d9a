"""Network architectures by name: those of this package, and those that other packages add by entry point.

A package adds an architecture with one class that has the methods of
`models.networks.architecture.Architecture`, and one entry point of the group
``bathyscope.networks`` whose name is the architecture's::

    [project.entry-points."bathyscope.networks"]
    unet = "my_package.unet:UnetArchitecture"

The names and sizes of the architectures of this package are known without
importing torch. The name of an architecture of this package cannot be used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from models.errors import DataError

if TYPE_CHECKING:
    from models.networks.architecture import Architecture

__all__ = [
    "GROUP",
    "architecture_named",
    "architecture_names",
    "architecture_sizes",
    "available_architectures",
    "has_network",
]

GROUP = "bathyscope.networks"
"""Group of the entry points."""


@dataclass(frozen=True, slots=True)
class _BuiltIn:
    """An architecture of this package: its class and the names of its sizes, the default first."""

    module: str
    name: str
    sizes: tuple[str, ...]


_BUILT_IN = {
    "cascade": _BuiltIn("models.networks.cascade_architecture", "CascadeArchitecture", ("full", "live")),
    "vgg": _BuiltIn("models.networks.vgg_architecture", "VggArchitecture", ("narrow", "quarter", "wide", "printed")),
    "fcn": _BuiltIn("models.networks.fcn_architecture", "FcnArchitecture", ("narrow", "wide")),
    "matched": _BuiltIn("models.networks.matched", "MatchedArchitecture", ("filter",)),
}


def architecture_names() -> tuple[str, ...]:
    """Names of all architectures, those of this package first; nothing is imported."""
    return (*_BUILT_IN, *sorted(_added()))


def architecture_sizes(name: str) -> tuple[str, ...]:
    """Names of an architecture's sizes, the default first.

    Raises
    ------
    DataError
        When there is no architecture of that name, or its package cannot be imported.
    """
    return _BUILT_IN[name].sizes if name in _BUILT_IN else tuple(architecture_named(name).sizes)


def available_architectures() -> dict[str, tuple[str, ...]]:
    """Sizes of each architecture that can be imported, by its name."""
    available = {}
    for name in architecture_names():
        try:
            available[name] = architecture_sizes(name)
        except DataError:
            continue
    return available


def architecture_named(name: str) -> type[Architecture]:
    """Class of an architecture.

    Raises
    ------
    DataError
        When there is no architecture of that name, or its package cannot be imported.
    """
    if name in _BUILT_IN:
        known = _BUILT_IN[name]
        return getattr(import_module(known.module), known.name)  # type: ignore[no-any-return]  # loaded by name
    added = _added()
    if name not in added:
        raise DataError(
            f"There is no architecture {name!r}; this installation has {', '.join(architecture_names())}.",
            "Choose one of these with --architecture, or install the package that has it.",
        )
    return _loaded(added[name])


def has_network(architecture: Architecture | type[Architecture]) -> bool:
    """Whether an architecture finds candidates in single frames; only `matched` states that it does not."""
    return bool(getattr(architecture, "finds_candidates", True))


def _added() -> dict[str, EntryPoint]:
    """Entry points of other packages by name."""
    return {found.name: found for found in entry_points(group=GROUP) if found.name not in _BUILT_IN}


def _loaded(found: EntryPoint) -> type[Architecture]:
    package = "an unknown package" if found.dist is None else found.dist.name
    try:
        loaded: Any = found.load()
    except Exception as error:
        raise DataError(
            f"The architecture {found.name!r} of {package} ({found.value}) cannot be imported "
            f"({type(error).__name__}: {error}).",
            "Update or repair that package, or choose another architecture.",
        ) from error
    missing = [method for method in ("sizes", "for_optics", "from_settings") if not hasattr(loaded, method)]
    if missing:
        raise DataError(
            f"The architecture {found.name!r} of {package} ({found.value}) has no {', '.join(missing)}, so it is not "
            "an architecture.",
            "Update that package, or choose another architecture.",
        )
    kind: type[Architecture] = loaded
    return kind
