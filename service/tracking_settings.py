"""Settings of the tracking: in the settings file, in the request of a run, and in its record.

The settings of the tracker are declared once, in `models.tracking.settings`;
their types, ranges and help come from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from models.tracking.settings import Preset, TrackerSettings
from models.tracking.state import TracksLocalizations
from service.whole_numbers import WHOLE

if TYPE_CHECKING:
    from models.tracking.events import EventObserver
    from models.tracking.image_tracker import ImageModel

__all__ = ["Fit", "TrackingPart", "TrackingRequest"]

Fit = Literal["auto", "off"]


def _tracker_fields(*, optional: bool) -> dict[str, Any]:
    """Type and field of each setting of the tracker; those of a request are optional."""
    types = get_type_hints(TrackerSettings)
    found: dict[str, Any] = {}
    for each in fields(TrackerSettings):
        if each.default is MISSING:
            continue
        rule, kind = each.metadata, types[each.name]
        bounds = {} if kind is bool else {"ge": rule["low"], "le": rule["high"]}
        unit = f" Unit: {rule['unit']}." if rule["unit"] not in ("", "1") else ""
        text = f"{rule['help']}{unit}"
        if optional:
            bounded = Annotated[kind, Field(**bounds), WHOLE] if kind is int else Annotated[kind, Field(**bounds)]
            found[each.name] = (bounded | None, Field(None, description=text))
        else:
            found[each.name] = (kind, Field(each.default, description=text, **bounds))
    return found


_MOST_LAG_FRAMES = 200
_LAG_HELP = "Stored live tracks are smoothed by so many of the next frames; 0: not. Unit: frames."

_Tracker: Any = create_model(
    "_Tracker",
    __config__=ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False),
    **_tracker_fields(optional=False),
)

TrackerRequest: Any = create_model(
    "TrackerRequest",
    __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False),
    **_tracker_fields(optional=True),
)


class TrackingRequest(BaseModel):
    """Tracking of one run. Values that are absent are those of the service's settings."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    preset: Preset | None = Field(
        None, description="`default`, or `published`: the published Kalman filter, which has no settings."
    )
    fit: Fit | None = Field(
        None,
        description="Fit emitters to the camera images: `auto` (where there is a PSF, and as time allows), or `off`.",
    )
    smooth_lag_frames: Annotated[int, Field(ge=0, le=_MOST_LAG_FRAMES), WHOLE] | None = Field(
        None, description=_LAG_HELP
    )
    settings: TrackerRequest = Field(
        default_factory=TrackerRequest, description="Settings of the tracker; for the preset `default` only."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.preset == "published" and self.settings.model_dump(exclude_none=True):
            raise ValueError("the preset 'published' has the settings of the publication; give no settings with it")
        return self


_OF_ALL_PRESETS = ("fit", "smooth_after_run", "smooth_lag_frames")


class TrackingPart(_Tracker):  # type: ignore[misc]  # the fields of the tracker are made at run time
    """How localizations become tracks."""

    preset: Preset = Field(
        default="default", description="default, or published: the published Kalman filter, which has no settings."
    )
    fit: Fit = Field(
        default="auto",
        description="Fit emitters to the camera images: auto (where the model has a PSF, and as time allows), or off.",
    )
    smooth_after_run: bool = Field(
        default=True, description="Smooth the tracks of a run when it has ended, as their next revision."
    )
    smooth_lag_frames: int = Field(default=10, ge=0, le=_MOST_LAG_FRAMES, description=_LAG_HELP)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.preset == "published" and self.tracker_settings != TrackerSettings():
            raise ValueError(
                "the preset 'published' has the settings of the publication; remove the other settings of tracking"
            )
        return self

    @property
    def tracker_settings(self) -> TrackerSettings:
        """Settings of the tracker."""
        return TrackerSettings(**{each.name: getattr(self, each.name) for each in fields(TrackerSettings)})

    @property
    def smooths(self) -> bool:
        """Whether tracks are smoothed afterwards; the published tracker has no smoothing."""
        return bool(self.smooth_after_run) and self.preset == "default"

    @property
    def lag_frames(self) -> int:
        """Frames by which stored live tracks are smoothed; the published tracker has no smoothing."""
        return self.smooth_lag_frames if self.preset == "default" else 0

    @property
    def candidates_from(self) -> float | None:
        """Probability from which localizations go to the tracker; None: the threshold of the model."""
        return None if self.preset == "published" else self.tracker_settings.least_probability

    @property
    def fits(self) -> bool:
        """Whether emitters are fitted to the camera images; the published tracker takes localizations."""
        return self.fit == "auto" and self.preset == "default"

    def tracker(self, images: ImageModel | None = None) -> TracksLocalizations:
        """A new tracker: of camera images, where they are fitted; without `images` it fits none until it has some."""
        from models.tracking.image_tracker import ImageTracker
        from models.tracking.offline import make_tracker

        if self.fits:
            return ImageTracker(images, self.tracker_settings)
        return make_tracker(self.preset, self.tracker_settings)

    def observer(self) -> EventObserver:
        """A new observer of merges and splits."""
        from models.tracking.events import EventObserver

        return EventObserver(self.tracker_settings)

    def changed_by(self, request: Mapping[str, Any]) -> TrackingPart:
        """These settings with those of a `TrackingRequest`.

        Raises
        ------
        ValidationError
            When the request has something unknown or out of range.
        """
        wanted = TrackingRequest.model_validate(dict(request))
        given = self.model_dump()
        if wanted.preset == "published":
            given = {name: given[name] for name in _OF_ALL_PRESETS}
        given |= wanted.settings.model_dump(exclude_none=True)
        given |= wanted.model_dump(exclude_none=True, exclude={"settings"})
        return TrackingPart(**given)

    def record(self) -> dict[str, Any]:
        """All values in use, for the record of a run; in the form of a request."""
        values = self.model_dump(mode="json")
        own = {name: values.pop(name) for name in ("preset", *_OF_ALL_PRESETS)}
        return {**own, "settings": {} if self.preset == "published" else values}

    @classmethod
    def of_record(cls, record: Mapping[str, Any] | None) -> TrackingPart:
        """The settings of a run. A run without a record has the defaults, and is neither fitted nor smoothed."""
        if not record:
            return cls(fit="off", smooth_after_run=False, smooth_lag_frames=0)
        given = {name: value for name, value in record.items() if name != "settings"}
        return cls(**record.get("settings", {}), **given)
