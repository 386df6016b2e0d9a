"""Changes of a calibration or a model that a user may make."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from service.api.quantities import Line

__all__ = ["ItemChange"]


class ItemChange(BaseModel):
    """New texts of a calibration or a model."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Line = Field(description="A name for display.")
