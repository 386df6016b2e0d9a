"""Where exported tracks come from, for the formats that can state it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

__all__ = ["Origin"]


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known about a set of tracks besides its points.

    Attributes
    ----------
    source : id of the run, or name of the file of tracks
    name : name of the run for people; empty when there is none
    revision : of the tracks; None for a file
    model_id : the model that localized; None when not known
    pixel_size_um : camera pixel at the sample, µm; None when not known
    started_at : start of the run, ISO 8601 in UTC; None for a file
    """

    source: str
    name: str = ""
    revision: int | None = None
    model_id: str | None = None
    pixel_size_um: float | None = None
    started_at: str | None = None

    def facts(self) -> dict[str, str | int | float]:
        """What is known, with the version of the software that writes it."""
        known = {name: value for name, value in asdict(self).items() if value not in (None, "")}
        return {"software": f"bathyscope {_version()}", **known}


def _version() -> str:
    try:
        return version("bathyscope")
    except PackageNotFoundError:
        return "0+source"
