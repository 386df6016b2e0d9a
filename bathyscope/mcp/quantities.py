"""Types of the arguments of tools, with their bounds. The service checks every value again, with its own limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

__all__ = ["Count", "Id", "OptionalUm", "TimeS"]

Id = Annotated[str, Field(pattern=r"^[0-9A-Za-z._-]{1,64}$", description="An id, as lists show it.")]
Count = Annotated[int, Field(ge=1, le=200, description="Most items.")]
TimeS = Annotated[float | None, Field(ge=0, le=1e7, description="Time of the run, s.")]
OptionalUm = Annotated[float | None, Field(ge=-1e5, le=1e5, description="µm")]
